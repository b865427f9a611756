"""Rows that belong together, kept in one chunk."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from typing import Any

from dpo_data.errors import RowError
from dpo_data.readers.rows import Chunk, RawRow, chunked, parse_records

#: What rows that belong together share; None of a row that stands for itself.
GroupKey = Callable[[dict[str, Any]], Hashable]


def groups(rows: Iterable[RawRow], key: GroupKey | None) -> Iterator[list[RawRow]]:
    """Rows in lists: those that follow each other with one key together, every other by itself."""
    if key is None:
        return ([row] for row in rows)
    return chain.from_iterable(
        ([row] for row in run) if shared is None else [list(run)] for shared, run in groupby(rows, _key_of(key))
    )


def whole_groups(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """The chunks of one file, none of which ends inside a group: the rows that go on with its last key move into it."""
    key_of = _key_of(key)
    held: Chunk | None = None
    last: Hashable = None
    for chunk in chunks:
        rows = list(chunk.rows())
        moved = 0
        if held is not None and last is not None:
            while moved < len(rows) and key_of(rows[moved]) == last:
                moved += 1
            held = replace(held, extra=held.extra + tuple(rows[:moved]))
        if moved == len(rows):
            continue
        if held is not None:
            yield held
        held, last = replace(chunk, skip=moved), key_of(rows[-1])
    if held is not None:
        yield held


def gathered(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """The rows of one file in chunks again, groups together in the order of their first rows; held in memory."""
    key_of = _key_of(key)
    by_key: dict[Hashable, list[RawRow]] = {}
    first: Chunk | None = None
    for chunk in chunks:
        first = first or chunk
        for row in chunk.rows():
            shared = key_of(row)
            by_key.setdefault(("row", row.line) if shared is None else ("key", shared), []).append(row)
    if first is None:
        return
    for line, rows in chunked(chain.from_iterable(by_key.values())):
        yield replace(first, first_line=line, payload=rows, parse=parse_records)
        first = replace(first, opens_file=False)


def _key_of(key: GroupKey) -> Callable[[RawRow], Hashable]:
    return lambda row: None if isinstance(row.value, RowError) else key(row.value)
