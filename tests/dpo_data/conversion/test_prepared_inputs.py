"""Prepared folders, and datasets that were saved to disk, as inputs."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from conversions import hashes, kept_lines, pair, prompts, refusal

from dpo_data import convert, open_prepared, tokenize, validate
from dpo_data.errors import InputError, PreparedError, UsageError


def rows_of(folder: Path) -> list[dict[str, Any]]:
    prepared = open_prepared(folder)
    return [row for split in prepared.split_names for batch in prepared.batches(split) for row in batch.to_pylist()]


@pytest.fixture
def prepared(tmp_path, write_rows) -> Path:
    """Return a prepared folder with two splits, scores and a row in quarantine."""
    write_rows(tmp_path / "raw" / "train.jsonl", [pair(1, chosen_score=2), pair(2, chosen=""), pair(3, lang="en")])
    write_rows(tmp_path / "raw" / "test.jsonl", [pair(4, lang="de")])
    convert("pairs", tmp_path / "raw", output=tmp_path / "prepared", keep=["lang"], max_invalid=1)
    return tmp_path / "prepared"


# Prepared folders.


def test_a_prepared_folder_keeps_pairs_splits_origins_and_sources(prepared, tmp_path):
    manifest = convert("pairs", prepared, output=tmp_path / "again", keep=["lang"])
    assert rows_of(tmp_path / "again") == rows_of(prepared)
    assert kept_lines(tmp_path / "again") == ["raw/train.jsonl:1", "raw/train.jsonl:3", "raw/test.jsonl:1"]
    assert (manifest.form, manifest.form_reason) == ("text", "the form of the prepared folder")
    assert manifest.unused_columns == {}
    assert [(entry.file, entry.split, entry.rows) for entry in manifest.inputs] == [
        ("prepared/train/data-00000-of-00001.arrow", "train", 2),
        ("prepared/test/data-00000-of-00001.arrow", "test", 1),
    ]
    assert validate(tmp_path / "again").damage == {}


def test_a_prepared_folder_keeps_the_source_that_it_was_made_of(tmp_path):
    before = convert("hh-rlhf", sample=True, output=tmp_path / "prepared")
    manifest = convert("pairs", tmp_path / "prepared", output=tmp_path / "again")
    assert manifest.source == before.source
    assert {row["source"] for row in rows_of(tmp_path / "again")} == {"hh-rlhf"}
    assert manifest.content_hash != before.content_hash  # pairs has columns of scores
    strip = ("chosen_score", "rejected_score", "margin")
    again = [{name: value for name, value in row.items() if name not in strip} for row in rows_of(tmp_path / "again")]
    assert again == rows_of(tmp_path / "prepared")


def test_conversations_with_tools_and_reasoning_survive(tmp_path, write_rows):
    call = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    row = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "", "tool_calls": call, "reasoning_content": "hmm"}],
        "rejected": [{"role": "assistant", "content": "No"}],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    convert("pairs", write_rows(tmp_path / "raw" / "a.jsonl", [row]), output=tmp_path / "prepared")
    convert("pairs", tmp_path / "prepared", output=tmp_path / "again")
    assert rows_of(tmp_path / "again") == rows_of(tmp_path / "prepared")


def test_options_of_the_second_conversion_apply(prepared, tmp_path):
    convert("pairs", prepared, output=tmp_path / "test", split="test")
    assert prompts(tmp_path / "test") == {"test": ["Question 1?", "Question 3?", "Question 4?"]}
    manifest = convert("pairs", prepared, output=tmp_path / "chat", form="conversational")
    assert (manifest.form, manifest.pairs) == ("conversational", 3)


def test_two_prepared_folders_are_read_together(tmp_path, write_rows):
    for name, number in (("one", 1), ("two", 2)):
        raw = write_rows(tmp_path / "raw" / f"{name}.jsonl", [pair(number)])
        convert("pairs", raw, output=tmp_path / name)
    convert("pairs", [tmp_path / "one", tmp_path / "two"], output=tmp_path / "both")
    assert kept_lines(tmp_path / "both") == ["raw/one.jsonl:1", "raw/two.jsonl:1"]


def test_other_sources_refuse_a_prepared_folder(prepared, tmp_path):
    assert refusal(UsageError, prepared, output=tmp_path / "out", source="hh-rlhf") == (
        f"{prepared}: is a prepared folder already.\n  Check it: dpo-data validate {prepared}; or convert it again: "
        f"dpo-data convert pairs inputs={prepared}."
    )


def test_rejected_and_unfinished_folders_are_refused(tmp_path, write_rows):
    raw = write_rows(tmp_path / "raw" / "a.jsonl", [pair(1), pair(2, chosen="")])
    convert("pairs", raw, output=tmp_path / "rejected")
    assert "was rejected" in refusal(PreparedError, tmp_path / "rejected", output=tmp_path / "out")
    (tmp_path / "unfinished" / ".partial").mkdir(parents=True)
    assert "is unfinished" in refusal(PreparedError, tmp_path / "unfinished", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_token_cache_is_refused(prepared, tmp_path, byte_tokenizer):
    cache = tokenize(prepared, tokenizer=byte_tokenizer)
    assert refusal(UsageError, cache.path, output=tmp_path / "out") == (
        f"{cache.path}: is a token cache, which has no texts.\n  Name the prepared folder that it was made of."
    )


def test_an_evaluation_set_may_be_a_prepared_folder(prepared, tmp_path, write_rows):
    words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    convert("pairs", write_rows(tmp_path / "e" / "a.jsonl", [pair(1, prompt=words)]), output=tmp_path / "evaluation")
    convert("pairs", write_rows(tmp_path / "t" / "a.jsonl", [pair(2, prompt=f"{words}?")]), output=tmp_path / "train")
    assert validate(tmp_path / "train", against=[tmp_path / "evaluation"]).findings["contamination"].rows == 1


# Folders below an input folder.


def test_prepared_folders_and_the_output_below_an_input_are_skipped_counted_and_named(
    prepared, tmp_path, dpo_data, byte_tokenizer
):
    tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "caches")
    out = tmp_path / "out"
    code, text, _ = dpo_data("convert", "pairs", "--input", tmp_path, "--output", out, "--max-invalid", 1)
    assert code == 0
    assert kept_lines(out) == ["raw/train.jsonl:1", "raw/train.jsonl:3", "raw/test.jsonl:1"]
    (cache,) = (tmp_path / "caches" / "tokens").iterdir()
    skipped = [f"caches/tokens/{cache.name}", "out", "prepared"]
    assert open_prepared(out).manifest.skipped == skipped
    assert f"3 folders below the inputs were not read: {', '.join(skipped)}" in text


def test_a_second_run_into_a_folder_below_the_input_writes_the_same_bytes(tmp_path, write_rows):
    write_rows(tmp_path / "data" / "train.jsonl", [pair(1)])
    out = tmp_path / "data" / "prepared"
    convert("pairs", tmp_path / "data", output=out)
    before = hashes(out)
    manifest = convert("pairs", tmp_path / "data", output=out, overwrite=True)
    assert (hashes(out), manifest.skipped) == (before, ["data/prepared"])


def test_a_folder_with_nothing_but_a_prepared_one_has_no_files(prepared, tmp_path):
    (tmp_path / "only").mkdir()
    prepared.rename(tmp_path / "only" / "prepared")
    assert refusal(InputError, tmp_path / "only", output=tmp_path / "out") == (
        f"{tmp_path / 'only'}: no file of a known format in this folder.\n  It has prepared folders, which `pairs` "
        f"reads if you name them: {tmp_path / 'only' / 'prepared'}."
    )


def test_a_manifest_of_something_else_does_not_make_a_prepared_folder(tmp_path, write_rows):
    write_rows(tmp_path / "data" / "train.jsonl", [pair(1)])
    (tmp_path / "data" / "site").mkdir()
    (tmp_path / "data" / "site" / "manifest.json").write_text(json.dumps({"name": "a web page"}))
    manifest = convert("pairs", tmp_path / "data", output=tmp_path / "out", max_invalid=1)
    assert (manifest.pairs, manifest.quarantined, manifest.skipped) == (1, 1, [])


# Datasets that were saved to disk.

ROWS = [pair(1), pair(2)]


def test_a_saved_dataset_is_read_without_its_descriptions(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    manifest = convert("pairs", tmp_path / "saved", output=tmp_path / "out")
    assert (manifest.rows_read, manifest.pairs, manifest.quarantined) == (2, 2, 0)
    assert [entry.file for entry in manifest.inputs] == ["saved/data-00000-of-00001.arrow"]


def test_the_splits_of_a_saved_dataset_are_its_folders(tmp_path):
    splits = {"train_prefs": ROWS, "test_prefs": [pair(3)], "validation": [pair(4)]}
    dataset = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    dataset.save_to_disk(tmp_path / "saved")
    manifest = convert("pairs", tmp_path / "saved", output=tmp_path / "out")
    assert manifest.quarantined == 0
    assert {name: sorted(of_split) for name, of_split in prompts(tmp_path / "out").items()} == {
        "train": ["Question 1?", "Question 2?"],
        "test": ["Question 3?", "Question 4?"],
    }


def test_files_of_the_cache_of_datasets_are_not_read(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    shard = tmp_path / "saved" / "data-00000-of-00001.arrow"
    (tmp_path / "saved" / "cache-0123456789abcdef.arrow").write_bytes(shard.read_bytes())
    assert convert("pairs", tmp_path / "saved", output=tmp_path / "out").rows_read == 2


def test_descriptions_of_datasets_are_not_rows(tmp_path, write_rows):
    write_rows(tmp_path / "data" / "train.jsonl", ROWS)
    for name in ("dataset_infos.json", "dataset_info.json"):
        (tmp_path / "data" / name).write_text(json.dumps({"a": {"file_name": "train.jsonl"}}))
    assert convert("pairs", tmp_path / "data", output=tmp_path / "out").rows_read == 2
    # One that is named itself is read.
    manifest = convert("pairs", tmp_path / "data" / "dataset_info.json", output=tmp_path / "one", max_invalid=1)
    assert (manifest.rows_read, manifest.pairs) == (1, 0)


def test_a_state_of_something_else_is_a_file_like_others(tmp_path, write_rows):
    write_rows(tmp_path / "data" / "train.jsonl", ROWS)
    (tmp_path / "data" / "state.json").write_text(json.dumps(pair(3)))
    assert convert("pairs", tmp_path / "data", output=tmp_path / "out").pairs == 3
