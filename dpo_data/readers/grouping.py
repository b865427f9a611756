"""Rows that belong together, kept in one chunk."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain, groupby
from typing import Any

from dpo_data.errors import RowError
from dpo_data.readers.rows import Chunk, RawRow, in_blocks

#: Returns what the rows of one group share, or None for a row that belongs to no group.
GroupKey = Callable[[dict[str, Any]], Hashable]


def groups(rows: Iterable[RawRow], key: GroupKey | None) -> Iterator[list[RawRow]]:
    """Yield consecutive rows with the same key as one list, and every other row as a list of its own."""
    if key is None:
        return ([row] for row in rows)
    return chain.from_iterable(
        ([row] for row in run) if shared is None else [list(run)] for shared, run in groupby(rows, _key_of(key))
    )


def whole_groups(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """Yield the chunks of one file so that none ends inside a group: rows that continue its last group move into it.

    The chunks come with the rows that were parsed to find the groups.
    """
    key_of = _key_of(key)
    held: Chunk | None = None
    rows: list[RawRow] = []
    for chunk in chunks:
        new = list(chunk.rows())
        moved = 0
        if rows and (last := key_of(rows[-1])) is not None:
            while moved < len(new) and key_of(new[moved]) == last:
                moved += 1
        rows += new[:moved]
        if moved == len(new):
            continue
        if held is not None:
            yield held.with_rows(rows)
        held, rows = chunk, new[moved:]
    if held is not None:
        yield held.with_rows(rows)


def gathered(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """Yield the rows of one file in new chunks, groups together in the order of their first rows; held in memory."""
    key_of = _key_of(key)
    by_key: dict[Hashable, list[RawRow]] = {}
    first: Chunk | None = None
    for chunk in chunks:
        first = first or chunk
        for row in chunk.rows():
            shared = key_of(row)
            by_key.setdefault(("row", row.line) if shared is None else ("key", shared), []).append(row)
    if first is not None:
        for block in in_blocks(chain.from_iterable(by_key.values())):
            yield first.with_rows(block.payload)


def _key_of(key: GroupKey) -> Callable[[RawRow], Hashable]:
    return lambda row: None if isinstance(row.value, RowError) else key(row.value)
