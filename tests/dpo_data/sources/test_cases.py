"""Small files as people have them, in tests/fixtures/cases: their pairs, and the source that sniff names."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared
from dpo_data.conversion.chunks import convert_chunks
from dpo_data.conversion.detect import sniff
from dpo_data.conversion.plan import make_plan
from dpo_data.conversion.raw_inputs import RawInputs
from dpo_data.errors import UsageError
from dpo_data.prepared.manifest import Manifest
from dpo_data.readers.inputs import find_inputs

CASES = Path(__file__).parents[2] / "fixtures" / "cases"


def converted(source: str, case: str, folder: Path, **options: Any) -> tuple[Manifest, dict[str, list[dict[str, Any]]]]:
    """Return the manifest of a case, and its pairs by split."""
    options = {"form": "conversational", "max_invalid": 1} | options
    manifest = convert(source, [CASES / case], output=folder / "out", **options)
    prepared = open_prepared(folder / "out")
    splits = [split for split, entry in manifest.splits.items() if entry.pairs]
    return manifest, {s: [row for batch in prepared.batches(s) for row in batch.to_pylist()] for s in splits}


def texts(pair: dict[str, Any]) -> tuple[Any, ...]:
    """Return prompt, chosen and rejected; of messages role and content."""
    return tuple(
        pair[name] if isinstance(pair[name], str) else [(m["role"], m["content"]) for m in pair[name]]
        for name in ("prompt", "chosen", "rejected")
    )


def turn(question: str, chosen: str, rejected: str) -> tuple[Any, ...]:
    return [("user", question)], [("assistant", chosen)], [("assistant", rejected)]


def quarantined(folder: Path) -> dict[str, Any]:
    """Return the first quarantined row."""
    row: dict[str, Any] = json.loads((folder / "out" / "quarantine" / "train.jsonl").read_text().splitlines()[0])
    return row


def test_a_summary_has_the_prompt_of_openai_and_trl_and_evaluation_rows_go_to_test(tmp_path: Path) -> None:
    _, pairs = converted("summarize-from-feedback", "02/batch9.json", tmp_path, form="text")
    assert [texts(pair) for pair in pairs["train"]] == [
        (
            "SUBREDDIT: r/legaladvice\n\nTITLE: Barking dog next door\n\nPOST: My neighbour's dog barks all night.\n\n"
            "What can I do?\n\nTL;DR:",
            " neighbour's dog barks at night; asking what steps to take.",
            " dog barks, need sleep",
        )
    ]
    assert [texts(pair)[0] for pair in pairs["test"]] == [
        "SUBREDDIT: r/relationships\n\nTITLE: Trip\n\nPOST: We plan a trip.\n\nTL;DR:"
    ]


def test_a_given_split_or_a_test_fraction_precedes_the_one_that_a_row_names(tmp_path: Path) -> None:
    _, pairs = converted("summarize-from-feedback", "02/batch9.json", tmp_path, split="train")
    assert {split: len(rows) for split, rows in pairs.items()} == {"train": 2}
    _, pairs = converted("summarize-from-feedback", "02/batch9.json", tmp_path, test_fraction=0.999999, overwrite=True)
    assert {split: len(rows) for split, rows in pairs.items()} == {"test": 2}


def test_webgpts_lines_of_two_records_are_pairs(tmp_path: Path) -> None:
    _, pairs = converted("webgpt", "03/comparisons.jsonl", tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [
        turn(
            f"Why does ice float on water, case {n}?",
            f"Ice is less dense than liquid water [1]. ({n})",
            f"Because it is cold. ({n})",
        )
        for n in range(3)
    ]
    assert [pair["margin"] for pair in pairs["train"]] == [1.5] * 3
    assert sniff(CASES / "03/comparisons.jsonl").source == "webgpt"


@pytest.mark.parametrize("name", ["comparisons.jsonl", "comparisons.json"])
def test_a_file_of_one_comparison_of_webgpt_is_an_array_of_its_records(tmp_path: Path, name: str) -> None:
    line = (CASES / "03/comparisons.jsonl").read_text().splitlines()[0]
    (tmp_path / name).write_text(line)
    manifest = convert("webgpt", tmp_path / name, output=tmp_path / "out", form="conversational")
    assert (manifest.rows_read, manifest.pairs, manifest.quarantined) == (2, 1, 0)
    assert sniff(tmp_path / name).source == "webgpt"


def test_an_answer_of_webgpt_without_another_one_is_invalid(tmp_path: Path) -> None:
    one, other = json.loads((CASES / "03/comparisons.jsonl").read_text().splitlines()[0])
    (tmp_path / "flat.jsonl").write_text("\n".join(map(json.dumps, [one, other, one])))
    manifest = convert("webgpt", tmp_path / "flat.jsonl", output=tmp_path / "out", max_invalid=1)
    assert (manifest.pairs, manifest.quarantined_by_code) == (0, {"wrong_type": 3})


def test_system_and_input_columns_are_read_whole(tmp_path: Path) -> None:
    found = sniff(CASES / "04b/raw.jsonl")
    assert (found.source, found.complete, found.counts.pairs) == ("orca-dpo-pairs", True, 1)
    _, pairs = converted("orca-dpo-pairs", "04b/raw.jsonl", tmp_path)
    prompt = [("system", "You are an auditor. Answer in one line."), ("user", "Is this safe?")]
    assert texts(pairs["train"][0]) == (prompt, [("assistant", "No: re-entrancy.")], [("assistant", "Yes.")])


def test_sharegpt_conversations_may_have_string_responses(tmp_path: Path) -> None:
    found = sniff(CASES / "08/raw.jsonl")
    assert (found.source, found.counts.pairs) == ("llamafactory", 1)
    _, pairs = converted("llamafactory", "08/raw.jsonl", tmp_path)
    prompt = [("system", "Be brief."), ("user", "Name a river.")]
    assert texts(pairs["train"][0]) == (prompt, [("assistant", "The Nile.")], [("assistant", "No.")])


def test_the_validation_rows_of_one_file_go_to_test(tmp_path: Path) -> None:
    _, pairs = converted("helpsteer2-preference", "12/preference.jsonl", tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [turn("Define noise", "Noise is y", "Noise is x")]
    assert [texts(pair) for pair in pairs["test"]] == [turn("Define signal", "Signal is x", "Signal is y")]


def test_an_arena_of_seven_columns_is_read_from_json_lines_and_parquet(tmp_path: Path) -> None:
    for file in ("raw.jsonl", "raw.parquet"):
        _, pairs = converted("chatbot-arena", f"13a/{file}", tmp_path, overwrite=True)
        assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]
        assert sniff(CASES / "13a" / file).source == "chatbot-arena"


def test_oasst_messages_may_leave_out_what_is_null(tmp_path: Path) -> None:
    found = sniff(CASES / "14a/raw.jsonl")
    assert (found.source, found.counts.pairs) == ("oasst", 1)
    manifest, pairs = converted("oasst", "14a/raw.jsonl", tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]
    assert manifest.left_out_by_reason == {"prompt": 1}


def test_the_column_that_a_hint_names_can_be_mapped(tmp_path: Path) -> None:
    raw = tmp_path / "raw.jsonl"
    row = json.loads((CASES / "16/raw.jsonl").read_text())
    row["answer"] = row.pop("completion")
    raw.write_text(json.dumps(row))
    manifest = convert("kto", [raw], output=tmp_path / "out", max_invalid=1)
    hint = quarantined(tmp_path)["hint"]
    assert (manifest.quarantined, hint) == (1, "Name the column that holds it with --map, or remove the row.")
    mapping = {"completion": "answer", "prompt": "question"}
    manifest = convert("kto", [raw], output=tmp_path / "out", overwrite=True, mapping=mapping)
    assert (manifest.quarantined, manifest.left_out_by_reason) == (0, {"single_response": 1})
    manifest = convert("kto", [CASES / "16/raw.jsonl"], output=tmp_path / "out", overwrite=True)
    assert manifest.quarantined == 0


@pytest.mark.parametrize(
    ("source", "row", "hint"),
    [
        ("pairs", {"prompt": "Q", "chosen": "a"}, "Name the column that holds it with --map, or remove the row."),
        ("ranked", {"prompt": "Q", "scores": [1]}, "Name the column that holds it with --map, or remove the row."),
        ("nectar", {"prompt": "Q", "ranks": [1]}, "The columns of nectar are fixed: rename the column in the raw file"),
        ("nectar", {"prompt": "Q", "answers": [{}]}, "Complete the row in the raw file, or remove it."),
        (
            "chatbot-arena",
            {"winner": "nobody", "conversation_a": [], "conversation_b": []},
            "Correct the value in the raw file, or remove the row.",
        ),
    ],
)
def test_a_hint_never_names_an_option_that_the_source_lacks(
    source: str, row: dict[str, Any], hint: str, tmp_path: Path
) -> None:
    raw = tmp_path / "raw.jsonl"
    raw.write_text(json.dumps(row))
    convert(source, [raw], output=tmp_path / "out", max_invalid=1)
    assert quarantined(tmp_path)["hint"].startswith(hint)


def test_arena_140k_has_content_parts_and_both_bad_is_no_tie(tmp_path: Path) -> None:
    found = sniff(CASES / "19/raw.jsonl")
    assert (found.source, found.counts.pairs) == ("chatbot-arena", 1)
    _, pairs = converted("chatbot-arena", "19/raw.jsonl", tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]
    row = json.loads((CASES / "19/raw.jsonl").read_text()) | {"winner": "both_bad"}
    raw = tmp_path / "bad.jsonl"
    raw.write_text(json.dumps(row))
    manifest = convert("chatbot-arena", [raw], output=tmp_path / "bad", tie="keep")
    assert (manifest.pairs, manifest.left_out_by_reason) == (0, {"both_bad": 1})


def test_one_split_of_hub_files_whose_rows_name_it_leaves_out_the_others() -> None:
    plan = make_plan("helpsteer2-preference", split="test")
    assert plan.inputs == ["hf://datasets/nvidia/HelpSteer2/preference/preference.jsonl.gz"]
    local = RawInputs(find_inputs([CASES / "12/preference.jsonl"], split=plan.options.split))
    (chunk,) = convert_chunks(local, plan.job)
    assert {split: batch.num_rows for split, batch in chunk.batches.items()} == {"test": 1}
    assert chunk.left_out == {"other_split": 1}


@pytest.mark.parametrize("source", ["webgpt", "summarize-from-feedback"])
def test_a_source_without_files_on_the_hub_says_where_they_are(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no files on the Hub .*\n  Download https://openaipublic"):
        convert(source, output=tmp_path / "out")


@pytest.mark.parametrize(
    ("case", "expected"),
    [("15a/raw.jsonl", ("Name a river.", "The Nile.", "No.")), ("kto_str_label.jsonl", ("Hi?", "A", "B"))],
)
def test_unpaired_rows_have_their_labels_and_dialogues_in_many_layouts(
    case: str, expected: tuple[str, str, str], tmp_path: Path
) -> None:
    assert sniff(CASES / case).source == "kto"
    _, pairs = converted("kto", case, tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [turn(*expected)]


def test_the_arena_of_55k_is_read_from_the_cells_of_its_csv(tmp_path: Path) -> None:
    found = sniff(CASES / "05a/train.csv")
    assert (found.source, found.complete, found.counts.pairs) == ("two-answers", True, 1)
    manifest, pairs = converted("two-answers", "05a/train.csv", tmp_path, split="train", form="auto")
    assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]
    assert manifest.left_out_by_reason == {"histories_differ": 1, "tie": 1}


def test_alpaca_evals_preference_counts_from_1(tmp_path: Path) -> None:
    assert sniff(CASES / "05b/raw.jsonl").source == "two-answers"
    _, pairs = converted("two-answers", "05b/raw.jsonl", tmp_path, form="auto")
    assert [texts(pair) for pair in pairs["train"]] == [
        turn("Name a river.", "The Nile.", "No."),
        turn("Name a lake.", "Lake Como.", "No."),
    ]


def test_the_left_of_label_studio_is_the_first_answer(tmp_path: Path) -> None:
    assert sniff(CASES / "05d/export.json").source == "two-answers"
    _, pairs = converted("two-answers", "05d/export.json", tmp_path, form="auto")
    assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]


def test_a_nested_tree_gives_the_pairs_of_its_messages(tmp_path: Path) -> None:
    assert sniff(CASES / "14b/trees.jsonl").source == "oasst"
    _, pairs = converted("oasst", "14b/trees.jsonl", tmp_path)
    assert [texts(pair) for pair in pairs["train"]] == [turn("Name a river.", "The Nile.", "No.")]
