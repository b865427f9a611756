"""What validate finds in prepared folders and in raw pairs, and that damage does not go unseen."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data.errors import InputError, PreparedError, UsageError
from dpo_data.inspect.validation import CodeFinding, Quantiles, TruncationCount, ValidationReport, validate
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.manifest import content_hash
from dpo_data.schemas import json_schema
from dpo_data.tokens.cache import tokenize


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


#: Lengths in characters: prompts 1, 2, 3, 4, 9; chosen 1, 2, 3, 8, 7; rejected 5, 1, 2, 2, 9.
ROWS = [
    pair("p", "c", "rrrrr"),
    pair("qq", "cc", "r"),
    pair("sss", "ccc", "rr"),
    pair("tttt", "cccccccc", "rr"),
    pair("uuuuuuuuu", "ccccccc", "rrrrrrrrr"),
]
CONVERSATION = {
    "prompt": [{"role": "user", "content": "hello"}],
    "chosen": [{"role": "assistant", "content": "hi there"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}


def quantiles(*lengths: int) -> Quantiles:
    """Of five lengths, ascending: 5 % lies in the first, half in the third, 95 % in the last."""
    first, _, third, _, last = sorted(lengths)
    return Quantiles(min=first, p5=first, median=third, p95=last, p99=last, max=last)


CHARACTERS = {
    "prompt": quantiles(1, 2, 3, 4, 9),
    "chosen": quantiles(1, 2, 3, 8, 7),
    "rejected": quantiles(5, 1, 2, 2, 9),
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
        "chosen": quantiles(2, 3, 4, 9, 8),
        "rejected": quantiles(6, 2, 3, 3, 10),
        "pair": quantiles(1 + 6, 2 + 3, 3 + 4, 4 + 9, 9 + 10),
    }
    # Letters that no merge was learned for are one token each here too; BOS comes before each prompt.
    with_bos = validate(clean, tokenizer=make_tokenizer(bos=True, corpus=["xyz"])).tokens
    assert with_bos["prompt"] == quantiles(2, 3, 4, 5, 10)
    assert with_bos["chosen"] == quantiles(2, 3, 4, 9, 8)


def test_pairs_that_each_length_would_cut_are_counted(clean, byte_tokenizer):
    # Pairs of 7, 5, 7, 13 and 19 tokens, whose longer responses have 6, 3, 4, 9 and 10.
    report = validate(clean, tokenizer=byte_tokenizer, max_lengths=[4, 6, 7, 10, 19])
    assert report.cut == [
        TruncationCount(max_length=4, pairs_cut=5, responses_cut=4),
        TruncationCount(max_length=6, pairs_cut=4, responses_cut=3),
        TruncationCount(max_length=7, pairs_cut=2, responses_cut=2),
        TruncationCount(max_length=10, pairs_cut=2, responses_cut=1),
        TruncationCount(max_length=19, pairs_cut=0, responses_cut=0),
    ]


@pytest.mark.parametrize("max_length", [4, 7, 13])
def test_what_validate_says_is_cut_is_what_tokenize_drops(clean, byte_tokenizer, max_length):
    [cut] = validate(clean, tokenizer=byte_tokenizer, max_lengths=[max_length]).cut
    cache = tokenize(clean, tokenizer=byte_tokenizer, max_length=max_length, on_overlong="drop")
    assert cache.manifest.splits["train"].pairs_read - cache.manifest.splits["train"].pairs == cut.pairs_cut


def test_token_caches_of_this_text_are_named(clean, byte_tokenizer):
    keys = [tokenize(clean, tokenizer=byte_tokenizer, max_length=most).manifest.key for most in (8, 16)]
    assert validate(clean).token_caches == sorted(keys)
    assert validate(clean).worst() is None


def test_files_beside_those_of_the_manifest_are_ignored(clean):
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
        make_prepared([pair("p", "ccc", "rr"), pair("q", "a\ufffdb", "rr"), pair("s", "cc", "\n\nHuman: r")])
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


def test_findings_over_the_whole_data_set_name_both_rows(tmp_path, write_rows):
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
    rows = [pair("p", "ccc", "rr"), pair("p", "rr", "ccc"), pair("p", "ccc", "rr"), pair("q", "a\ufffdb", "rr")]
    prepared, raw = validate(make_prepared(rows)), validate(tmp_path / "raw" / "pairs.jsonl")
    assert set(raw.findings) == {"bad_characters", "duplicate_pair", "contradiction"}
    assert prepared.findings == raw.findings
    assert prepared.characters == raw.characters


def test_only_the_first_few_examples_are_kept(make_prepared):
    report = validate(make_prepared([pair(f"p{index}", f"a\ufffd{index}", "rr") for index in range(9)]))
    finding = report.findings["bad_characters"]
    assert (finding.rows, len(finding.examples)) == (9, 5)
    assert finding.examples[0].startswith("raw/pairs.jsonl:1: ")


def test_checks_that_convert_was_told_to_allow_only_warn_here_too(make_prepared):
    prepared = make_prepared([*ROWS, pair("v", "same", "same")], allow=["identical_responses"])
    report = validate(prepared)
    assert found(report) == {
        "identical_responses": ("warning", 1, ["raw/pairs.jsonl:6: chosen and rejected are the same text."])
    }


def test_rows_in_quarantine_are_no_error_of_a_prepared_folder(make_prepared):
    report = validate(make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.5))
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


def test_raw_pairs_of_which_none_is_good_are_described_all_the_same(tmp_path, write_rows, byte_tokenizer):
    report = validate(write_rows(tmp_path / "pairs.jsonl", [pair("p", "", "r")]), tokenizer=byte_tokenizer)
    assert (report.pairs, report.quarantined, report.splits) == (0, 1, {})
    assert (report.characters, report.tokens, report.cut, report.chosen_longer) == ({}, {}, [], None)
    assert report.worst() == "error"


def test_validating_raw_pairs_leaves_no_file_beside_them(tmp_path, write_rows):
    raw = write_rows(tmp_path / "raw" / "pairs.jsonl", BAD_ROWS)
    validate(raw)
    assert [path.name for path in tmp_path.rglob("*")] == ["raw", "pairs.jsonl"]


# Damage.


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_arrow(path: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Write an Arrow file again with changed columns."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    columns = table.to_pydict()
    change(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(pa.table(columns, schema=table.schema))


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make_right_again(folder: Path, name: str) -> None:
    """Give a changed file its right hash and size in the manifest, as one who hides the change would."""

    def change(manifest: dict[str, Any]) -> None:
        path = folder / name
        manifest["files"][name] = {"sha256": hash_file(path), "size_bytes": path.stat().st_size}
        if "content_hash" in manifest:
            splits = {split: entry["shards"] for split, entry in manifest["splits"].items()}
            hashes = {split: [manifest["files"][shard]["sha256"] for shard in names] for split, names in splits.items()}
            manifest["content_hash"] = content_hash(manifest["form"], manifest["columns"], hashes)

    change_manifest(folder, change)


SHARD = "train/data-00000-of-00001.arrow"
OTHER_BYTES = "has other bytes than when it was written (SHA-256 differs)"


def test_a_flipped_bit_in_a_text_shard_is_named(clean):
    flip_bit(clean / SHARD)
    report = validate(clean)
    assert report.damage == {SHARD: OTHER_BYTES}
    assert report.worst() == "error"


def test_a_flipped_bit_in_any_place_of_a_shard_is_found(clean):
    shard = clean / SHARD
    whole = shard.read_bytes()
    for position in range(0, len(whole), 97):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        shard.write_bytes(damaged)
        assert validate(clean).damage == {SHARD: OTHER_BYTES}, position


def test_a_flipped_bit_in_a_token_shard_is_named(clean, byte_tokenizer):
    cache = tokenize(clean, tokenizer=byte_tokenizer)
    flip_bit(cache.path / SHARD)
    assert validate(clean).damage == {f"tokens/{cache.path.name}/{SHARD}": OTHER_BYTES}


def test_a_token_cache_elsewhere_is_checked_where_it_is(clean, byte_tokenizer, tmp_path):
    cache = tokenize(clean, tokenizer=byte_tokenizer, cache_dir=tmp_path / "caches")
    assert validate(clean).token_caches == []
    assert validate(clean, cache_dir=tmp_path / "caches").token_caches == [cache.manifest.key]
    flip_bit(cache.path / SHARD)
    assert validate(clean, cache_dir=tmp_path / "caches").damage == {f"tokens/{cache.path.name}/{SHARD}": OTHER_BYTES}


def test_a_missing_file_is_named(clean):
    (clean / SHARD).unlink()
    (clean / "README.md").unlink()
    assert validate(clean).damage == {SHARD: "is missing", "README.md": "is missing"}


def test_a_file_of_another_size_is_named(clean):
    with (clean / "README.md").open("ab") as file:
        file.write(b"!")
    size = (clean / "README.md").stat().st_size
    assert validate(clean).damage == {"README.md": f"has {size:,} bytes, not {size - 1:,}"}


def test_an_edited_quarantine_file_is_named(make_prepared):
    prepared = make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.5)
    quarantine = prepared / "quarantine" / "train.jsonl"
    quarantine.write_text(quarantine.read_text().replace("same text", "Same text"))
    assert validate(prepared).damage == {"quarantine/train.jsonl": OTHER_BYTES}


def test_a_changed_row_is_found_even_under_a_right_hash(clean):
    def change(columns: dict[str, list[Any]]) -> None:
        columns["chosen"][2] = "cCc"

    change_arrow(clean / SHARD, change)
    make_right_again(clean, SHARD)
    assert validate(clean).damage == {
        "train": "raw/pairs.jsonl:3: id or prompt_key does not fit the text; the row was changed"
    }


def test_a_row_that_is_gone_is_found_even_under_a_right_hash(clean):
    def change(columns: dict[str, list[Any]]) -> None:
        for column in columns.values():
            del column[2]

    change_arrow(clean / SHARD, change)
    make_right_again(clean, SHARD)
    assert validate(clean).damage == {"train": "has 4 pairs, and the manifest says 5"}


def test_a_manifest_that_does_not_add_up_is_refused(clean):
    change_manifest(clean, lambda manifest: manifest.update(rows_read=6))
    with pytest.raises(PreparedError) as refusal:
        validate(clean)
    assert str(refusal.value) == (
        f"{clean}/manifest.json: does not add up: rows_read is 6, but rows_paired + quarantined + left_out give 5.\n"
        "  Make it again: dpo-data convert SOURCE --output."
    )


def test_a_quarantine_of_other_length_than_the_manifest_says_is_found(make_prepared):
    prepared = make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.5)
    quarantine = prepared / "quarantine" / "train.jsonl"
    quarantine.write_text(quarantine.read_text() * 2)
    make_right_again(prepared, "quarantine/train.jsonl")
    assert validate(prepared).damage == {"quarantine": "has 2 rows, and the manifest says 1"}


@pytest.mark.parametrize(
    ("ids", "damage"),
    [
        ([999, 256], "has ids in chosen_ids outside the vocabulary"),
        ([-1], "has ids in chosen_ids outside the vocabulary"),
        ([], "has an empty chosen_ids"),
    ],
)
def test_ids_that_no_trainer_could_use_are_found_even_under_a_right_hash(clean, byte_tokenizer, ids, damage):
    cache = tokenize(clean, tokenizer=byte_tokenizer)

    def change(columns: dict[str, list[Any]]) -> None:
        columns["chosen_ids"][1] = ids

    change_arrow(cache.path / SHARD, change)
    make_right_again(cache.path, SHARD)
    assert validate(clean).damage == {f"tokens/{cache.path.name}/{SHARD}": damage}


def test_a_rejected_folder_is_described_and_called_so(make_prepared):
    report = validate(make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.1))
    assert (report.rows_read, report.pairs, report.quarantined) == (6, 5, 1)
    assert report.damage == {
        "manifest.json": "says rejected: 1 of 6 rows are in quarantine, and no trainer takes the rest"
    }
    assert report.worst() == "error"


# Refusals.


def test_an_unfinished_folder_is_refused(tmp_path):
    (tmp_path / ".partial").mkdir()
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        validate(tmp_path)


def test_a_manifest_that_cannot_be_read_is_refused(clean):
    manifest = clean / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(PreparedError, match="is damaged, or not a manifest of dpo-data prepared"):
        validate(clean)


def test_a_path_that_is_not_there_is_refused(tmp_path):
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
    prepared = make_prepared([*ROWS, pair("v", "same", "same"), pair("w", "a\ufffdb", "r")])
    (prepared / "README.md").unlink()
    return validate(prepared)


def test_a_report_survives_json(report):
    assert ValidationReport.model_validate_json(report.model_dump_json()) == report
    assert ValidationReport.model_validate(json.loads(json.dumps(report.model_dump(mode="json")))) == report


def test_a_report_fits_its_schema(report):
    schema = json_schema("validation-report")
    jsonschema.Draft202012Validator.check_schema(schema)
    document = report.model_dump(mode="json")
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"pairs": -1}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document | {"unknown": 1}, schema)


def test_the_gravest_of_damage_and_findings_counts(clean):
    report = validate(clean)
    warning, error = (CodeFinding(severity=severity, rows=1, hint="", examples=[]) for severity in ("warning", "error"))
    assert report.model_copy(update={"findings": {"a": warning}}).worst() == "warning"
    assert report.model_copy(update={"findings": {"a": warning, "b": error}}).worst() == "error"
    assert report.model_copy(update={"findings": {"a": warning}, "damage": {"file": "is missing"}}).worst() == "error"
