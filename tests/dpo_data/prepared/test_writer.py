"""Shards of any name and size, and folders that appear only when they are complete."""

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from dpo_data import convert, open_prepared, tokenize, validate
from dpo_data.checks.row_keys import RowPosition
from dpo_data.prepared.files import hash_file
from dpo_data.prepared.manifest import SplitEntry, content_hash
from dpo_data.prepared.reader import origin_lookup, read_manifest, read_shard
from dpo_data.prepared.writer import write_split_description

ROWS = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(6)]


def test_shards_are_full_whatever_the_sizes_of_the_batches(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.prepared.writer.SHARD_ROWS", 4)
    raw = write_rows(tmp_path / "in" / "a.jsonl", [{**ROWS[0], "prompt": f"Question {n}?"} for n in range(10)])
    for chunk_bytes in (1, 150, 1 << 20):
        monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
        out = tmp_path / f"out{chunk_bytes}"
        manifest = convert("pairs", [raw], output=out, split="train", form="text")
        assert manifest.splits["train"].shards == [f"train/data-0000{n}-of-00003.arrow" for n in range(3)]
        assert manifest.splits["train"].shard_rows == [4, 4, 2]
        rows = [sum(batch.num_rows for batch in read_shard(out / shard)) for shard in manifest.splits["train"].shards]
        assert rows == [4, 4, 2]
        prompts = [p for batch in open_prepared(out).batches("train") for p in batch.column("prompt").to_pylist()]
        assert prompts == [f"Question {n}?" for n in range(10)]
        assert datasets.load_from_disk(out)["train"]["prompt"][:] == prompts


@pytest.fixture
def uneven(make_prepared) -> Path:
    """A prepared folder whose six rows are in shards of 1, 0, 3 and 2 rows with names of their own."""
    folder = make_prepared(ROWS, split="train")
    manifest = json.loads((folder / "manifest.json").read_text())
    [old] = manifest["splits"]["train"]["shards"]
    table = pa.Table.from_batches(read_shard(folder / old))
    names = [f"train/unit-{name}.arrow" for name in ("c", "a", "d", "b")]
    for name, start, rows in zip(names, (0, 1, 1, 4), (1, 0, 3, 2), strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            if rows:
                writer.write_table(table.slice(start, rows))
    (folder / old).unlink()
    del manifest["files"][old]
    hashes = {name: hash_file(folder / name) for name in names}
    described = {name.removeprefix("train/"): hash_ for name, hash_ in hashes.items()}
    write_split_description(folder / "train", "train", table.schema, described)
    for name in (*names, "train/state.json"):
        path = folder / name
        manifest["files"][name] = {"sha256": hash_file(path), "size_bytes": path.stat().st_size}
    manifest["splits"]["train"] |= {"shards": names, "shard_rows": [1, 0, 3, 2]}
    manifest["content_hash"] = content_hash("text", manifest["columns"], {"train": list(hashes.values())})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_folder_with_shards_of_any_name_and_size_is_read_validated_and_tokenized(uneven, byte_tokenizer):
    prepared = open_prepared(uneven)
    prompts = [prompt for batch in prepared.batches("train") for prompt in batch.column("prompt").to_pylist()]
    assert prompts == [row["prompt"] for row in ROWS]
    assert prepared.dataset()["train"]["prompt"][:] == prompts
    assert validate(uneven).damage == {}
    cache = tokenize(uneven, tokenizer=byte_tokenizer)
    assert [shard.counts.pairs for shard in cache.manifest.shards["train"]] == [1, 0, 3, 2]
    assert [byte_tokenizer.decode(ids) for ids in cache.dataset()["train"]["prompt_ids"]] == prompts


def test_a_row_is_looked_up_by_the_recorded_rows_of_the_shards(uneven):
    origin_of = origin_lookup(uneven, read_manifest(uneven).splits)
    origins = [origin_of(RowPosition(0, position)) for position in range(6)]
    assert origins == [f"raw/pairs.jsonl:{line}" for line in range(1, 7)]


def test_locate_finds_shard_and_position_and_refuses_what_is_beyond_the_split():
    split = SplitEntry(pairs=5, quarantined=0, left_out=0, shards=["a", "b", "c", "d"], shard_rows=[2, 0, 1, 2])
    assert [split.locate(row) for row in range(5)] == [("a", 0), ("a", 1), ("c", 0), ("d", 0), ("d", 1)]
    with pytest.raises(IndexError):
        split.locate(5)
