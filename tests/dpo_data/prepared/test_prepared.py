"""The prepared folder: other tools read it, and a folder that is unfinished, rejected or damaged is refused."""

import json
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
import pytest

from dpo_data import convert, open_prepared
from dpo_data.errors import PreparedError
from dpo_data.prepared.reader import damaged_files, is_prepared, read_manifest, read_shard
from dpo_data.tokens.cache import open_tokens

GOOD = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(5)]
BAD = {"prompt": "Question?", "chosen": "same", "rejected": "same"}


@pytest.fixture
def folder(tmp_path, write_rows):
    """A prepared folder with both splits and one row in quarantine of each."""
    train = write_rows(tmp_path / "in" / "train.jsonl", [*GOOD, BAD])
    test = write_rows(tmp_path / "in" / "test.jsonl", [BAD, {**GOOD[0], "prompt": "Another?"}])
    convert("pairs", [train, test], output=tmp_path / "out", max_invalid=0.5, form="text")
    return tmp_path / "out"


def refusal(path: Path) -> str:
    with pytest.raises(PreparedError) as caught:
        open_prepared(path)
    return str(caught.value)


# Other tools.


def test_the_folder_has_these_files_and_no_others(folder):
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [
        "README.md",
        "dataset_dict.json",
        "manifest.json",
        "provenance.json",
        "quarantine/test.jsonl",
        "quarantine/train.jsonl",
        "test/data-00000-of-00001.arrow",
        "test/dataset_info.json",
        "test/state.json",
        "train/data-00000-of-00001.arrow",
        "train/dataset_info.json",
        "train/state.json",
    ]
    manifest = read_manifest(folder)
    assert sorted(manifest.files) == [name for name in found if name not in ("manifest.json", "provenance.json")]


def test_datasets_loads_the_text_form_with_its_features(folder):
    loaded = datasets.load_from_disk(folder)
    assert {name: split.num_rows for name, split in loaded.items()} == {"train": 5, "test": 1}
    text, number = datasets.Value("string"), datasets.Value("float64")
    assert dict(loaded["train"].features) == {
        "prompt": text,
        "chosen": text,
        "rejected": text,
        "chosen_score": number,
        "rejected_score": number,
        "margin": number,
        "source": text,
        "origin": text,
        "id": text,
        "prompt_key": text,
    }
    row = loaded["train"][4]
    assert {name: row[name] for name in ("prompt", "chosen", "rejected", "chosen_score", "source", "origin")} == {
        "prompt": "Question 4?",
        "chosen": "yes 4",
        "rejected": "no",
        "chosen_score": None,
        "source": "pairs",
        "origin": "in/train.jsonl:5",
    }


def test_datasets_loads_the_conversational_form_with_its_features(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", GOOD)
    convert("pairs", [raw], output=tmp_path / "out", form="conversational", split="train")
    loaded = datasets.load_from_disk(tmp_path / "out")["train"]
    listed = datasets.List({"role": datasets.Value("string"), "content": datasets.Value("string")})
    assert {name: loaded.features[name] for name in ("prompt", "chosen", "rejected")} == {
        "prompt": listed,
        "chosen": listed,
        "rejected": listed,
    }
    row = loaded[0]
    assert [row[name] for name in ("prompt", "chosen", "rejected")] == [
        [{"role": "user", "content": "Question 0?"}],
        [{"role": "assistant", "content": "yes 0"}],
        [{"role": "assistant", "content": "no"}],
    ]


def test_sources_without_scores_have_no_score_columns(tmp_path):
    convert("hh-rlhf", sample=True, output=tmp_path / "out", limit=20)
    assert datasets.load_from_disk(tmp_path / "out")["train"].column_names == [
        "prompt",
        "chosen",
        "rejected",
        "source",
        "origin",
        "id",
        "prompt_key",
    ]


def test_datasets_does_not_mix_up_the_map_results_of_two_folders(tmp_path, write_rows):
    fingerprints = set()
    for name, rows in (("a", GOOD), ("b", GOOD[:2])):
        convert(
            "pairs", [write_rows(tmp_path / f"{name}.jsonl", rows)], output=tmp_path / name, split="train", form="text"
        )
        fingerprints.add(datasets.load_from_disk(tmp_path / name)["train"]._fingerprint)
    assert len(fingerprints) == 2


def test_pandas_reads_the_quarantine(folder):
    quarantine = pd.read_json(folder / "quarantine" / "train.jsonl", lines=True)
    assert quarantine.to_dict("records") == [
        {
            "file": "in/train.jsonl",
            "line": 6,
            "code": "identical_responses",
            "field": "rejected",
            "message": "chosen and rejected are the same text.",
            "hint": "Identical responses give a loss of ln 2 and no gradient: remove the row.",
            "raw": '{"prompt": "Question?", "chosen": "same", "rejected": "same"}',
        }
    ]


def test_pandas_reads_a_quarantine_of_broken_bytes(tmp_path):
    raw = tmp_path / "in" / "a.jsonl"
    raw.parent.mkdir()
    lines = [b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}', b'{"\\ud800"', b"\x00\x1f\xe2\x80\xa8", b"[1]"]
    raw.write_bytes(b"\n".join(lines))
    convert("pairs", [raw], output=tmp_path / "out", max_invalid=1, split="train", form="text")
    quarantine = pd.read_json(tmp_path / "out" / "quarantine" / "train.jsonl", lines=True)
    assert list(quarantine["line"]) == [1, 2, 3, 4]
    assert list(quarantine["code"]) == ["invalid_unicode", "unreadable_row", "unreadable_row", "unreadable_row"]
    assert list(quarantine["raw"]) == [
        '{"prompt": "caf\\xe9", "chosen": "a", "rejected": "b"}',
        '{"\\ud800"',
        "\x00\x1f\u2028",
        "[1]",
    ]


def test_a_split_without_rows_is_left_out(tmp_path, write_rows):
    convert(
        "pairs", [write_rows(tmp_path / "in" / "a.jsonl", GOOD)], output=tmp_path / "out", split="test", form="text"
    )
    assert json.loads((tmp_path / "out" / "dataset_dict.json").read_text()) == {"splits": ["test"]}
    assert not (tmp_path / "out" / "train").exists()
    assert open_prepared(tmp_path / "out").split_names == ["test"]


def test_a_folder_whose_rows_are_all_quarantined_loads_as_empty(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [BAD])
    convert("pairs", [raw], output=tmp_path / "out", max_invalid=1, form="text")
    assert dict(datasets.load_from_disk(tmp_path / "out")) == {}


# Refusals.


def test_a_complete_folder_opens(folder):
    prepared = open_prepared(folder)
    assert prepared.split_names == ["train", "test"]
    assert [batch.num_rows for batch in prepared.batches("train")] == [5]
    assert {name: split.num_rows for name, split in prepared.dataset().items()} == {"train": 5, "test": 1}
    assert damaged_files(folder, prepared.manifest.files) == {}


def test_a_missing_folder_is_refused(tmp_path):
    assert refusal(tmp_path / "none") == (
        f"{tmp_path}/none: there is no such folder.\n  Make it: dpo-data convert SOURCE --output {tmp_path}/none."
    )
    assert not is_prepared(tmp_path / "none")


def test_a_folder_without_manifest_is_refused(tmp_path):
    assert refusal(tmp_path) == (
        f"{tmp_path}: is not a folder of dpo-data prepared: it has no manifest.json.\n"
        "  Make one: dpo-data convert SOURCE --output FOLDER."
    )
    assert not is_prepared(tmp_path)


def test_a_folder_with_a_stopped_run_is_refused_as_unfinished(tmp_path):
    (tmp_path / ".partial").mkdir()
    assert refusal(tmp_path) == (
        f"{tmp_path}: is unfinished: a run was stopped.\n  Run it again: dpo-data convert SOURCE --output {tmp_path}."
    )
    assert is_prepared(tmp_path)


def test_a_rejected_folder_is_refused_and_can_be_inspected(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [*GOOD, BAD])
    manifest = convert("pairs", [raw], output=tmp_path / "out", max_invalid=0.1, split="train", form="text")
    assert manifest.status == "rejected"
    out = tmp_path / "out"
    assert refusal(out) == (
        f"{out}: was rejected: 1 of 6 rows are in quarantine, more than max_invalid=0.1 allows.\n"
        f"  See {out}/quarantine for the reasons; fix the rows, or raise max_invalid=, and convert again."
    )
    assert read_manifest(out) == manifest
    assert datasets.load_from_disk(out)["train"].num_rows == 5
    assert len((out / "quarantine" / "train.jsonl").read_text().splitlines()) == 1


def test_a_share_of_exactly_max_invalid_is_not_rejected(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [*GOOD[:3], BAD])
    assert convert("pairs", [raw], output=tmp_path / "out", max_invalid=0.25, form="text").status == "complete"


def test_another_version_is_refused_by_its_number(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 3, "news": "unknown"}))
    assert refusal(folder) == (
        f"{folder}: has format version 3; this program reads version 2 and older ones.\n"
        "  Upgrade dpo-data, or make the folder again: dpo-data convert SOURCE --output."
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"format": "something else"}', "\x00"])
def test_a_damaged_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    assert refusal(folder) == (
        f"{folder}/manifest.json: is damaged, or not a manifest of dpo-data prepared.\n"
        "  Make it again: dpo-data convert SOURCE --output."
    )


def test_a_manifest_with_an_unknown_or_a_missing_field_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "pairs"}))
    assert "is damaged, or not a manifest" in refusal(folder)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "extra": 1}))
    assert refusal(folder) == (
        f'{folder}/manifest.json: has the field "extra", which this program does not know.\n'
        "  If a newer release wrote it, upgrade dpo-data; otherwise the manifest is damaged."
    )


def test_a_manifest_that_is_not_utf8_is_refused(folder):
    (folder / "manifest.json").write_bytes(b"\xff\xfe")
    assert "is damaged, or not a manifest" in refusal(folder)


def test_a_prepared_folder_is_not_a_token_cache(folder):
    with pytest.raises(PreparedError) as caught:
        open_tokens(folder)
    assert str(caught.value) == (
        f"{folder}/manifest.json: is damaged, or not a manifest of dpo-data tokens.\n"
        "  Make it again: dpo-data tokenize."
    )


# Damaged files.


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_flipped_byte_anywhere_in_an_arrow_file_is_found_and_named(folder, split):
    name = f"{split}/data-00000-of-00001.arrow"
    whole = (folder / name).read_bytes()
    manifest = read_manifest(folder)
    for position in (0, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        (folder / name).write_bytes(changed)
        changed_file = {name: "has other bytes than when it was written (SHA-256 differs)"}
        assert damaged_files(folder, manifest.files) == changed_file


def test_every_missing_shortened_or_changed_file_is_named(folder):
    manifest = read_manifest(folder)
    (folder / "README.md").unlink()
    (folder / "quarantine" / "train.jsonl").write_text("x")
    size = manifest.files["quarantine/train.jsonl"].size_bytes
    state = folder / "train" / "state.json"
    state.write_text(state.read_text().replace("train", "tsain"))
    assert damaged_files(folder, manifest.files) == {
        "README.md": "is missing",
        "quarantine/train.jsonl": f"has 1 bytes, not {size}",
        "train/state.json": "has other bytes than when it was written (SHA-256 differs)",
    }


def test_files_that_the_manifest_does_not_name_are_ignored(folder):
    loaded = datasets.load_from_disk(folder)
    loaded["train"].map(lambda row: {"length": len(row["prompt"])})  # writes cache-*.arrow next to the data
    (folder / "notes.txt").write_text("mine")
    assert list((folder / "train").glob("cache-*.arrow"))
    assert damaged_files(folder, read_manifest(folder).files) == {}


def test_a_truncated_or_missing_shard_is_named(folder):
    path = folder / "train" / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(PreparedError) as caught:
        list(read_shard(path))
    assert str(caught.value).startswith(f"{path}: cannot be read: ")
    path.unlink()
    with pytest.raises(PreparedError) as caught:
        list(read_shard(path))
    assert str(caught.value).startswith(f"{path}: cannot be read: ")


def test_errors_of_datasets_become_prepared_errors(folder):
    (folder / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(PreparedError, match="cannot be loaded"):
        open_prepared(folder).dataset()


def test_a_text_of_any_character_survives(tmp_path, write_rows):
    text = "\x00\x7f\u00e9\u2028\ufeff\U0001f600\r\n\t end"
    raw = write_rows(tmp_path / "in" / "a.jsonl", [{"prompt": text, "chosen": text + "a", "rejected": text + "b"}])
    convert("pairs", [raw], output=tmp_path / "out", split="train", form="text")
    (batch,) = open_prepared(tmp_path / "out").batches("train")
    assert batch.schema.field("prompt").type == pa.string()
    assert [batch.column(name)[0].as_py() for name in ("prompt", "chosen", "rejected")] == [
        text,
        text + "a",
        text + "b",
    ]
