"""`dpo-data validate`: lengths and findings of prepared folders and of raw pairs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data.errors import InputError, UsageError
from dpo_data.inspect.validation import CodeFinding, Quantiles, TruncationCount, ValidationReport, validate
from dpo_data.schemas import json_schema
from dpo_data.tokens.cache import tokenize


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


#: Lengths in characters: prompts 1, 2, 3, 4, 9; chosen 2, 3, 4, 9, 8; rejected 6, 2, 3, 3, 10.
ROWS = [
    pair("p", " c", " rrrrr"),
    pair("qq", " cc", " r"),
    pair("sss", " ccc", " rr"),
    pair("tttt", " cccccccc", " rr"),
    pair("uuuuuuuuu", " ccccccc", " rrrrrrrrr"),
]
CONVERSATION = {
    "prompt": [{"role": "user", "content": "hello"}],
    "chosen": [{"role": "assistant", "content": "hi there"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}


def quantiles(*lengths: int) -> Quantiles:
    """Return the quantiles of five lengths: 5% is the first of them in order, the median the third, 95% the last."""
    first, _, third, _, last = sorted(lengths)
    return Quantiles(min=first, p5=first, median=third, p95=last, p99=last, max=last)


CHARACTERS = {
    "prompt": quantiles(1, 2, 3, 4, 9),
    "chosen": quantiles(2, 3, 4, 9, 8),
    "rejected": quantiles(6, 2, 3, 3, 10),
}


def found(report: ValidationReport) -> dict[str, tuple[str, int, list[str]]]:
    return {code: (finding.severity, finding.rows, finding.examples) for code, finding in report.findings.items()}


@pytest.fixture
def clean(make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(ROWS)


# Clean data.


def test_a_clean_folder_is_described_and_nothing_is_found(clean):
    assert validate(clean) == ValidationReport(
        path=str(clean),
        kind="prepared",
        form="text",
        rows_read=5,
        pairs=5,
        splits={"train": 5},
        quarantined=0,
        damage={},
        findings={},
        characters=CHARACTERS,
        tokens=None,
        cut=None,
        chosen_longer=0.6,
        token_caches=[],
    )
    assert validate(clean).worst() is None


def test_lengths_in_tokens_count_bos_and_eos(clean, byte_tokenizer, make_tokenizer):
    # One token a byte, and EOS after each response.
    assert validate(clean, tokenizer=byte_tokenizer).tokens == {
        "prompt": quantiles(1, 2, 3, 4, 9),
        "chosen": quantiles(3, 4, 5, 10, 9),
        "rejected": quantiles(7, 3, 4, 4, 11),
        "pair": quantiles(1 + 7, 2 + 4, 3 + 5, 4 + 10, 9 + 11),
    }
    # Letters without a learned merge are one token each here too; BOS precedes each prompt.
    with_bos = validate(clean, tokenizer=make_tokenizer(bos=True, corpus=["xyz"])).tokens
    assert with_bos["prompt"] == quantiles(2, 3, 4, 5, 10)
    assert with_bos["chosen"] == quantiles(3, 4, 5, 10, 9)


def test_pairs_that_each_length_would_truncate_are_counted(clean, byte_tokenizer):
    # Pairs of 8, 6, 8, 14 and 20 tokens, whose longer responses have 7, 4, 5, 10 and 11.
    report = validate(clean, tokenizer=byte_tokenizer, max_lengths=[5, 7, 8, 11, 20])
    assert report.cut == [
        TruncationCount(max_length=5, pairs_cut=5, responses_cut=4),
        TruncationCount(max_length=7, pairs_cut=4, responses_cut=3),
        TruncationCount(max_length=8, pairs_cut=2, responses_cut=2),
        TruncationCount(max_length=11, pairs_cut=2, responses_cut=1),
        TruncationCount(max_length=20, pairs_cut=0, responses_cut=0),
    ]


@pytest.mark.parametrize("max_length", [5, 8, 14])
def test_tokenize_drops_the_pairs_that_validate_counts_as_too_long(clean, byte_tokenizer, max_length):
    [cut] = validate(clean, tokenizer=byte_tokenizer, max_lengths=[max_length]).cut
    cache = tokenize(clean, tokenizer=byte_tokenizer, max_length=max_length, on_overlong="drop")
    assert cache.manifest.splits["train"].pairs_read - cache.manifest.splits["train"].pairs == cut.pairs_cut


def test_token_caches_of_this_text_are_named(clean, byte_tokenizer):
    keys = [tokenize(clean, tokenizer=byte_tokenizer, max_length=most).manifest.key for most in (8, 16)]
    assert validate(clean).token_caches == sorted(keys)
    assert validate(clean).worst() is None


def test_files_that_the_manifest_does_not_name_are_ignored(clean):
    (clean / "train" / "cache-0123456789abcdef.arrow").write_bytes(b"datasets leaves such files")
    assert validate(clean).worst() is None


def test_conversations_are_measured_by_their_contents_and_their_template(make_prepared, chat_tokenizer):
    report = validate(make_prepared([CONVERSATION], form="conversational"), tokenizer=chat_tokenizer)
    assert {side: lengths.max for side, lengths in report.characters.items()} == {
        "prompt": len("hello"),
        "chosen": len("hi there"),
        "rejected": len("no"),
    }
    start = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert report.tokens["prompt"].max == len(chat_tokenizer(start)["input_ids"])
    assert report.tokens["chosen"].max == len(chat_tokenizer("hi there<|im_end|>")["input_ids"])


def test_pairs_that_the_template_refuses_have_no_lengths_in_tokens(make_prepared, make_tokenizer):
    template = "{% for m in messages %}{{ raise_exception('no') if m.content == 'x' }}{{ m.content }}{% endfor %}"
    refused = CONVERSATION | {"prompt": [{"role": "user", "content": "x"}]}
    alone = make_prepared([CONVERSATION], name="alone", form="conversational")
    both = make_prepared([refused, CONVERSATION], name="both", form="conversational")
    none = make_prepared([refused], name="none", form="conversational")
    tokenizer = make_tokenizer(template=template)
    assert validate(both, tokenizer=tokenizer).tokens == validate(alone, tokenizer=tokenizer).tokens
    assert validate(both, tokenizer=tokenizer).cut == validate(alone, tokenizer=tokenizer).cut
    assert (validate(none, tokenizer=tokenizer).tokens, validate(none, tokenizer=tokenizer).cut) == ({}, [])


# Findings.


def test_warnings_come_with_file_and_row(make_prepared):
    report = validate(
        make_prepared([pair("p", " ccc", " rr"), pair("q", " a\ufffdb", " rr"), pair("s", " cc", "\n\nHuman: r")])
    )
    assert found(report) == {
        "role_marker_in_response": (
            "warning",
            1,
            ['raw/pairs.jsonl:3: rejected has a line that starts with "Human:".'],
        ),
        "bad_characters": (
            "warning",
            1,
            ["raw/pairs.jsonl:2: chosen contains a replacement character (U+FFFD): bytes were lost in decoding."],
        ),
    }
    assert report.worst() == "warning"
    assert all(finding.hint for finding in report.findings.values())


def test_findings_over_the_whole_dataset_name_both_rows(tmp_path, write_rows):
    raw = tmp_path / "raw"
    write_rows(raw / "train.jsonl", [pair("p", "ccc", "rr"), pair("p", "rr", "ccc"), pair("p", "ccc", "rr")])
    write_rows(raw / "test.jsonl", [pair("p", "zzz", "rr")])
    report = validate(raw)
    assert found(report) == {
        "duplicate_pair": (
            "warning",
            1,
            ["raw/train.jsonl:3: the same prompt, chosen and rejected as an earlier row (raw/train.jsonl:1)."],
        ),
        "contradiction": (
            "warning",
            1,
            [
                "raw/train.jsonl:2: the opposite preference of an earlier row: A over B and B over A for the same "
                "prompt (raw/train.jsonl:1)."
            ],
        ),
        "prompt_in_two_splits": (
            "warning",
            1,
            ["raw/test.jsonl:1: the prompt is also in another split (raw/train.jsonl:1)."],
        ),
    }
    assert report.splits == {"train": 3, "test": 1}


def test_a_folder_finds_what_its_raw_rows_find(tmp_path, write_rows, make_prepared):
    rows = [pair("p ", "ccc", "rr"), pair("p ", "rr", "ccc"), pair("p ", "ccc", "rr"), pair("q ", "a\ufffdb", "rr")]
    prepared, raw = validate(make_prepared(rows)), validate(tmp_path / "raw" / "pairs.jsonl")
    assert set(raw.findings) == {"bad_characters", "duplicate_pair", "contradiction"}
    assert prepared.findings == raw.findings
    assert prepared.characters == raw.characters


def test_only_the_first_few_examples_are_kept(make_prepared):
    report = validate(make_prepared([pair(f"p{index}", f"a\ufffd{index}", "rr") for index in range(9)]))
    finding = report.findings["bad_characters"]
    assert (finding.rows, len(finding.examples)) == (9, 5)
    assert finding.examples[0].startswith("raw/pairs.jsonl:1: ")


def test_checks_that_convert_allowed_only_warn_here_too(make_prepared):
    prepared = make_prepared([*ROWS, pair("v", " same", " same")], allow=["identical_responses"])
    report = validate(prepared)
    assert found(report) == {
        "identical_responses": ("warning", 1, ["raw/pairs.jsonl:6: chosen and rejected are the same text."])
    }


def test_rows_in_quarantine_are_not_errors_of_a_prepared_folder(make_prepared):
    report = validate(make_prepared([*ROWS, pair("v", " same", " same")], max_invalid=0.5))
    assert (report.rows_read, report.pairs, report.quarantined) == (6, 5, 1)
    assert report.worst() is None


# Raw pairs.

BAD_ROWS = [
    *ROWS[:2],
    "{bad",
    pair("q", "", "x"),
    pair("z", "same", "same"),
    {"prompt": "a", "chosen": "b"},
    {"prompt": "a", "chosen": 7, "rejected": "b"},
]


def test_bad_raw_rows_are_errors_with_file_and_line(tmp_path, write_rows):
    raw = write_rows(tmp_path / "raw" / "pairs.jsonl", BAD_ROWS)
    report = validate(raw)
    place = "raw/pairs.jsonl"
    assert {code: (severity, rows) for code, (severity, rows, _) in found(report).items()} == {
        "empty_response": ("error", 1),
        "identical_responses": ("error", 1),
        "missing_field": ("error", 1),
        "unreadable_row": ("error", 1),
        "wrong_type": ("error", 1),
    }
    examples = {code: finding.examples for code, finding in report.findings.items()}
    assert examples["empty_response"] == [f"{place}:4: chosen is empty."]
    assert examples["identical_responses"] == [f"{place}:5: chosen and rejected are the same text."]
    assert examples["missing_field"][0].startswith(f"{place}:6: rejected is missing")
    assert examples["unreadable_row"][0].startswith(f"{place}:3: the line is not JSON")
    assert examples["wrong_type"][0].startswith(f"{place}:7: ")
    assert (report.kind, report.path) == ("raw", str(raw))
    assert (report.rows_read, report.pairs, report.quarantined) == (7, 2, 5)
    assert report.damage == {}
    assert report.worst() == "error"


def write_csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("prompt", "chosen", "rejected"))
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize(("name", "write"), [("pairs.csv", write_csv), ("pairs.parquet", write_parquet)])
def test_every_format_gives_the_report_of_json_lines(tmp_path, write_rows, name, write):
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw" / name)
    lines = write_rows(tmp_path / "raw" / "pairs.jsonl", ROWS)
    report = validate(tmp_path / "raw" / name)
    assert report.model_copy(update={"path": str(lines)}) == validate(lines)
    assert report.pairs == 5


def test_bad_rows_of_a_table_are_errors_with_their_line(tmp_path):
    raw = tmp_path / "pairs.csv"
    raw.write_text("prompt,chosen,rejected\np,cc,rr\nq,,rr\ns,cc\n")
    examples = {code: finding.examples for code, finding in validate(raw).findings.items()}
    assert set(examples) == {"empty_response", "unreadable_row"}
    assert examples["empty_response"][0].endswith("pairs.csv:3: chosen is empty.")
    assert examples["unreadable_row"][0].endswith("pairs.csv:4: the row has 2 fields, the header 3.")


def test_columns_of_other_names_are_mapped(tmp_path, write_rows):
    rows = [{"question": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in ROWS]
    raw = write_rows(tmp_path / "mine.jsonl", rows)
    report = validate(raw, mapping={"prompt": "question", "chosen": "good", "rejected": "bad"})
    assert (report.pairs, report.characters, report.findings) == (5, CHARACTERS, {})


def test_raw_hh_rlhf_is_judged_by_its_own_source(tmp_path, write_rows):
    ask = "\n\nHuman: hi\n\nAssistant:"
    rows = [
        {"chosen": ask + " hello", "rejected": ask + " go"},
        {"chosen": ask, "rejected": ask + " go"},
        {"chosen": ask + " hello", "rejected": "\n\nHuman: ho\n\nAssistant: go"},
    ]
    report = validate(write_rows(tmp_path / "hh.jsonl", rows), source="hh-rlhf")
    assert {code: (severity, rows) for code, (severity, rows, _) in found(report).items()} == {
        "empty_response": ("error", 1),
        "prompts_diverge": ("error", 1),
    }
    assert report.characters["prompt"].max == len(ask)


def test_raw_pairs_without_a_valid_row_are_described_too(tmp_path, write_rows, byte_tokenizer):
    report = validate(write_rows(tmp_path / "pairs.jsonl", [pair("p", "", "r")]), tokenizer=byte_tokenizer, form="text")
    assert (report.pairs, report.quarantined, report.splits) == (0, 1, {})
    assert (report.characters, report.tokens, report.cut, report.chosen_longer) == ({}, {}, [], None)
    assert report.worst() == "error"


def test_validating_raw_pairs_leaves_no_files_behind(tmp_path, write_rows):
    raw = write_rows(tmp_path / "raw" / "pairs.jsonl", BAD_ROWS)
    validate(raw)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "pairs.jsonl"]


# Refusals.


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.jsonl: there is no such file"):
        validate(tmp_path / "nothing.jsonl")


def test_a_tokenizer_without_eos_is_refused(clean, make_tokenizer):
    with pytest.raises(UsageError, match="the tokenizer has no end-of-sequence token"):
        validate(clean, tokenizer=make_tokenizer(eos_token=None))


def test_conversations_without_a_chat_template_are_refused(make_prepared, toy_tokenizer, tmp_path):
    for path in (make_prepared([CONVERSATION], form="conversational"), tmp_path / "raw" / "pairs.jsonl"):
        with pytest.raises(UsageError, match=r"the tokenizer has no chat template, and .* holds conversations"):
            validate(path, tokenizer=toy_tokenizer, form="conversational")


# The report as a document.


@pytest.fixture(params=["clean", "findings and damage", "nothing kept"])
def report(request, make_prepared, tmp_path, byte_tokenizer) -> ValidationReport:
    if request.param == "clean":
        prepared = make_prepared(ROWS)
        tokenize(prepared, tokenizer=byte_tokenizer)
        return validate(prepared, tokenizer=byte_tokenizer)
    if request.param == "nothing kept":
        make_prepared([pair("p", "", "r")])
        return validate(tmp_path / "raw" / "pairs.jsonl")
    prepared = make_prepared([*ROWS, pair("v", " same", " same"), pair("w", "a\ufffdb", "r")])
    (prepared / "README.md").unlink()
    return validate(prepared)


def test_a_report_survives_json(report):
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report
    assert ValidationReport.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report


def test_a_report_matches_its_schema(report):
    schema = json_schema("validation-report")
    jsonschema.Draft202012Validator.check_schema(schema)
    document = report.model_dump(mode="json")
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"pairs": -1}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"unknown": 1}, schema)


def test_the_most_severe_of_damage_and_findings_counts(clean):
    report = validate(clean)
    warning, error = (CodeFinding(severity=severity, rows=1, hint="", examples=[]) for severity in ("warning", "error"))
    assert report.model_copy(update={"findings": {"a": warning}}).worst() == "warning"
    assert report.model_copy(update={"findings": {"a": warning, "b": error}}).worst() == "error"
    assert report.model_copy(update={"findings": {"a": warning}, "damage": {"file": "is missing"}}).worst() == "error"
