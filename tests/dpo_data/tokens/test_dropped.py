"""Dropped pairs are read as they were written."""

import json

import pytest

from dpo_data.errors import InputError, PreparedError
from dpo_data.tokens.dropped import DroppedPair, DroppedRow, DroppedWriter, read_dropped

PAIR = {
    "origin": "caf\u00e9.jsonl:1",
    "id": "aa",
    "reason": "too_long",
    "prompt_tokens": 3,
    "chosen_tokens": 4,
    "rejected_tokens": 5,
}


def test_rows_are_read_with_the_split_and_shard_they_were_written_for(tmp_path):
    with DroppedWriter(tmp_path) as writer:
        writer.write("train", "k1", [DroppedPair(**PAIR)])
        writer.write("train", "k2", [])
        writer.write("test", "k3", [DroppedPair(**PAIR | {"id": "bb"})])
    assert list(read_dropped(tmp_path)) == [
        DroppedRow(**PAIR, split="train", shard="k1"),
        DroppedRow(**PAIR | {"id": "bb"}, split="test", shard="k3"),
    ]
    first = (tmp_path / "dropped.jsonl").read_text().splitlines()[0]
    assert list(json.loads(first).items()) == [("split", "train"), ("shard", "k1"), *PAIR.items()]


def test_a_row_that_was_read_is_written_as_it_was(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with DroppedWriter(tmp_path / "first") as writer:
        writer.write("train", "k1", [DroppedPair(**PAIR)])
    with DroppedWriter(tmp_path / "second") as writer:
        writer.write("train", "k1", read_dropped(tmp_path / "first"))
    assert (tmp_path / "second" / "dropped.jsonl").read_bytes() == (tmp_path / "first" / "dropped.jsonl").read_bytes()


@pytest.mark.parametrize("line", ["", "{}", "[1]", "{"])
def test_a_line_that_is_not_a_dropped_pair_is_named(tmp_path, line):
    path = tmp_path / "dropped.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(PreparedError) as refusal:
        list(read_dropped(tmp_path))
    assert str(refusal.value) == (
        f"{path}:1: is not a dropped pair.\n  The file was changed: delete the folder and tokenize again."
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"dropped\.jsonl: there is no such file"):
        list(read_dropped(tmp_path))
