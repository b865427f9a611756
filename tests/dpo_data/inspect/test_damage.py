"""`dpo-data validate`: damage is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dpo_data.errors import PreparedError
from dpo_data.inspect.validation import validate
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.manifest import content_hash
from dpo_data.tokens.cache import tokenize


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


ROWS = [
    pair("p", "c", "rrrrr"),
    pair("qq", "cc", "r"),
    pair("sss", "ccc", "rr"),
    pair("tttt", "cccccccc", "rr"),
    pair("uuuuuuuuu", "ccccccc", "rrrrrrrrr"),
]


@pytest.fixture
def clean(make_prepared: Callable[..., Path]) -> Path:
    return make_prepared(ROWS)


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_arrow(path: Path, change: Callable[[dict[str, list[Any]]], None]) -> None:
    """Rewrite an Arrow file with changed columns."""
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


def hide_change(folder: Path, name: str) -> None:
    """Give a changed file its new hash and size in the manifest."""

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


def test_a_flipped_bit_anywhere_in_a_shard_is_found(clean):
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


def test_a_changed_row_is_found_even_if_its_file_hash_matches(clean):
    def change(columns: dict[str, list[Any]]) -> None:
        columns["chosen"][2] = "cCc"

    change_arrow(clean / SHARD, change)
    hide_change(clean, SHARD)
    assert validate(clean).damage == {
        "train": "raw/pairs.jsonl:3: id or prompt_key does not match the text; the row was changed"
    }


def test_a_missing_row_is_found_even_if_its_file_hash_matches(clean):
    def change(columns: dict[str, list[Any]]) -> None:
        for column in columns.values():
            del column[2]

    change_arrow(clean / SHARD, change)
    hide_change(clean, SHARD)
    assert validate(clean).damage == {"train": "has 4 pairs, but the manifest says 5"}


def test_a_manifest_that_does_not_add_up_is_refused(clean):
    change_manifest(clean, lambda manifest: manifest.update(rows_read=6))
    with pytest.raises(PreparedError) as refusal:
        validate(clean)
    assert str(refusal.value) == (
        f"{clean}/manifest.json: does not add up: rows_read is 6, but rows_paired + quarantined + left_out give 5.\n"
        "  Make it again: dpo-data convert SOURCE --output."
    )


def test_a_quarantine_file_of_another_length_than_the_manifest_says_is_found(make_prepared):
    prepared = make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.5)
    quarantine = prepared / "quarantine" / "train.jsonl"
    quarantine.write_text(quarantine.read_text() * 2)
    hide_change(prepared, "quarantine/train.jsonl")
    assert validate(prepared).damage == {"quarantine": "has 2 rows, but the manifest says 1"}


@pytest.mark.parametrize(
    ("ids", "damage"),
    [
        ([999, 256], "has ids in chosen_ids outside the vocabulary"),
        ([-1], "has ids in chosen_ids outside the vocabulary"),
        ([], "has an empty chosen_ids"),
    ],
)
def test_unusable_token_ids_are_found_even_if_their_file_hash_matches(clean, byte_tokenizer, ids, damage):
    cache = tokenize(clean, tokenizer=byte_tokenizer)

    def change(columns: dict[str, list[Any]]) -> None:
        columns["chosen_ids"][1] = ids

    change_arrow(cache.path / SHARD, change)
    hide_change(cache.path, SHARD)
    assert validate(clean).damage == {f"tokens/{cache.path.name}/{SHARD}": damage}


def test_a_rejected_folder_is_described_as_rejected(make_prepared):
    report = validate(make_prepared([*ROWS, pair("v", "same", "same")], max_invalid=0.1))
    assert (report.rows_read, report.pairs, report.quarantined) == (6, 5, 1)
    assert report.damage == {
        "manifest.json": "says rejected: 1 of 6 rows are in quarantine, and no trainer accepts the rest"
    }
    assert report.worst() == "error"


def test_an_unfinished_folder_is_refused(tmp_path):
    (tmp_path / ".partial").mkdir()
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        validate(tmp_path)


def test_a_manifest_that_cannot_be_read_is_refused(clean):
    manifest = clean / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(PreparedError, match="is damaged, or not a manifest of dpo-data prepared"):
        validate(clean)
