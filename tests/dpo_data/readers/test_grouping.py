"""Rows of one group are in one chunk, and are parsed only once."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from raw_files import write_table, written

from dpo_data.readers import rows
from dpo_data.readers.grouping import gathered, groups, whole_groups
from dpo_data.readers.inputs import find_inputs
from dpo_data.readers.rows import Chunk


def key(row: dict[str, Any]) -> Hashable:
    return row.get("k")


def chunks_of(path: Path) -> list[Chunk]:
    (file,) = find_inputs([path])
    return list(file.chunks())


def lines_of(chunk: Chunk) -> list[int]:
    return [row.line for row in chunk.rows()]


@pytest.fixture
def scattered(tmp_path, monkeypatch) -> Path:
    """Nine rows, two in each chunk but the last; rows 3 to 6 and row 9 share a key, row 8 cannot be read."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 18)
    keys = ["a", "b", "c", "c", "c", "c", None, "{", "c"]
    lines = [k if k == "{" else '{"k":null}' if k is None else f'{{"k":"{k}"}}' for k in keys]
    return written(tmp_path / "rows.jsonl", "\n".join(lines))


def test_consecutive_rows_with_one_key_are_a_group(scattered: Path) -> None:
    all_rows = [row for chunk in chunks_of(scattered) for row in chunk.rows()]
    assert [[row.line for row in group] for group in groups(all_rows, key)] == [[1], [2], [3, 4, 5, 6], [7], [8], [9]]
    assert [[row.line for row in group] for group in groups(all_rows, None)] == [[n] for n in range(1, 10)]


def test_rows_that_continue_a_group_move_into_its_chunk(scattered: Path) -> None:
    plain = chunks_of(scattered)
    assert len(plain) > 3
    whole = list(whole_groups(plain, key))
    assert sorted(line for chunk in whole for line in lines_of(chunk)) == list(range(1, 10))
    (together,) = [lines_of(chunk) for chunk in whole if 3 in lines_of(chunk)]
    assert set(together) >= {3, 4, 5, 6}
    assert 9 not in together


def test_gathered_rows_of_a_group_follow_its_first_row(scattered: Path) -> None:
    assert [line for chunk in gathered(chunks_of(scattered), key) for line in lines_of(chunk)] == [
        *(1, 2),
        *(3, 4, 5, 6, 9),
        *(7, 8),
    ]


def test_chunks_of_groups_come_with_their_rows_parsed(scattered: Path) -> None:
    whole = list(whole_groups(chunks_of(scattered), key))
    for chunk in whole:
        assert [row is again for row, again in zip(chunk.rows(), chunk.rows(), strict=True)] == [True] * len(
            lines_of(chunk)
        )


def test_gathered_rows_of_a_table_come_in_several_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_BYTES", 10)
    values = [{"k": k, "text": "x" * 5} for k in ("a", "b", "a", None)]
    path = write_table(tmp_path / "a.parquet", pa.Table.from_pylist(values), "parquet")
    assert [lines_of(chunk) for chunk in gathered(chunks_of(path), key)] == [[1, 3], [2, 4]]
