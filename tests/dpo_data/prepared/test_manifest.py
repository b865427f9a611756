"""The manifest of a prepared folder: sums, versions, the content hash, and room for steps."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared
from dpo_data.errors import PreparedError
from dpo_data.prepared.manifest import PREPARED_VERSION, Manifest
from dpo_data.prepared.reader import read_manifest

ROWS = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(4)]
BAD = {"prompt": "Question?", "chosen": "same", "rejected": "same"}


@pytest.fixture
def folder(make_prepared: Callable[..., Path]) -> Path:
    """A prepared folder of four pairs and one quarantined row, all in train."""
    return make_prepared([*ROWS, BAD], max_invalid=0.5, split="train")


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def set_value(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return an edit that sets a value at a dotted path."""

    def edit(manifest: dict[str, Any]) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            manifest = manifest[parent]
        manifest[name] = value

    return edit


@pytest.mark.parametrize(
    ("path", "value", "sum_"),
    [
        ("rows_read", 6, "rows_read is 6, but rows_paired + quarantined + left_out give 5"),
        ("rows_paired", 5, "rows_read is 5, but rows_paired + quarantined + left_out give 6"),
        ("quarantined_by_code", {"wrong_type": 2}, "quarantined is 1, but quarantined_by_code give 2"),
        ("left_out_by_reason", {"tie": 1}, "left_out is 0, but left_out_by_reason give 1"),
        ("pairs", 5, "pairs is 5, but pairs of the splits give 4"),
        ("splits.train.pairs", 3, "pairs is 3, but the rows of the shards give 4"),
        ("splits.train.quarantined", 0, "quarantined is 1, but quarantined of the splits give 0"),
        ("splits.train.left_out", 1, "left_out is 0, but left_out of the splits give 1"),
        ("splits.train.shard_rows", [3, 1], "the length of shards is 1, but the length of shard_rows give 2"),
        ("splits.train.shards", ["train/a.arrow"], "train/a.arrow is a shard, but not in files"),
        ("form", "conversational", "content_hash is not the hash of form, columns and shards"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused_with_the_file_and_the_sum(folder, path, value, sum_):
    change(folder, set_value(path, value))
    with pytest.raises(PreparedError) as refusal:
        open_prepared(folder)
    assert str(refusal.value) == (
        f"{folder}/manifest.json: does not add up: {sum_}.\n  Make it again: dpo-data convert SOURCE --output."
    )


def test_an_unknown_field_inside_an_entry_is_named(folder):
    change(folder, set_value("splits.train.bytes", 10))
    with pytest.raises(PreparedError) as refusal:
        open_prepared(folder)
    assert str(refusal.value) == (
        f'{folder}/manifest.json: has the field "splits.train.bytes", which this program does not know.\n'
        "  If a newer release wrote it, upgrade dpo-data; otherwise the manifest is damaged."
    )


@pytest.mark.parametrize("version", [0, -1, PREPARED_VERSION + 1, "2", None, 1.5])
def test_a_version_that_this_program_does_not_read_is_refused(folder, version):
    change(folder, set_value("version", version))
    with pytest.raises(PreparedError, match=rf"has format version {version}; this program reads version 2 and older"):
        open_prepared(folder)


def test_the_manifest_records_the_rows_of_each_shard_and_the_columns(folder):
    manifest = read_manifest(folder)
    assert manifest.version == PREPARED_VERSION == 2
    assert manifest.splits["train"].shard_rows == [4]
    assert manifest.columns == {
        "prompt": "string",
        "chosen": "string",
        "rejected": "string",
        "chosen_score": "float64",
        "rejected_score": "float64",
        "margin": "float64",
        "source": "string",
        "origin": "string",
        "id": "string",
        "prompt_key": "string",
    }


def test_the_content_hash_is_that_of_form_columns_and_shards(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    shard = sha256((folder / "train" / "data-00000-of-00001.arrow").read_bytes()).hexdigest()
    columns = ",".join(f'["{name}","{type_}"]' for name, type_ in manifest["columns"].items())
    content = f'["text",[{columns}],{{"train":["{shard}"]}}]'
    assert manifest["content_hash"] == sha256(content.encode()).hexdigest()


def test_the_content_hash_depends_on_the_pairs_and_not_on_the_quarantine_or_the_options(tmp_path, write_rows):
    def hash_of(name: str, rows: list[dict[str, str]], **options: Any) -> str:
        raw = write_rows(tmp_path / "in" / "a.jsonl", rows)
        options = {"form": "text"} | options
        return convert("pairs", [raw], output=tmp_path / name, max_invalid=0.5, **options).content_hash

    first = hash_of("first", ROWS, split="train")
    assert hash_of("quarantined", [*ROWS, BAD], split="train", forbid=["bad_characters"]) == first
    assert hash_of("fewer", ROWS[:3], split="train") != first
    assert hash_of("test", ROWS, split="test") != first
    assert hash_of("conversational", ROWS, split="train", form="conversational") != first


def step(**changes: Any) -> dict[str, Any]:
    parents = [
        {"name": "first", "content_hash": "aa", "pairs": 3},
        {"name": "second", "content_hash": "bb", "pairs": 2},
    ]
    return {
        "verb": "mix",
        "version": 1,
        "options": {"shares": {"first": 0.5}},
        "parents": parents,
        "repeated": 1,
        "left_out": {"prompt_in_test": 2},
    } | changes


def test_a_folder_made_by_a_step_accounts_for_the_pairs_of_its_parents(folder):
    fields = read_manifest(folder).model_dump()
    manifest = Manifest.model_validate({**fields, "made_by": step()})
    assert manifest.made_by != "convert"
    assert sum(parent.pairs for parent in manifest.made_by.parents) + 1 == manifest.pairs + 2
    with pytest.raises(ValueError, match=r"pairs \+ left_out of the step is 6, but the pairs of its parents"):
        Manifest.model_validate({**fields, "made_by": step(repeated=0)})
