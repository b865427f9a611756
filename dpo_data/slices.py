"""Slices of Arrow data that are bounded in rows and in bytes, so that memory follows the data and not its shape."""

from collections.abc import Iterator
from typing import TypeVar

import pyarrow as pa

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)

#: Rows of a slice.
SLICE_ROWS = 1000
#: Bytes of a slice with more than one row: 1,000 rows of usual data have fewer.
SLICE_BYTES = 8 << 20


def slices(rows: Rows, max_rows: int = SLICE_ROWS, max_bytes: int = SLICE_BYTES) -> Iterator[Rows]:
    """Yield consecutive slices of at most `max_rows`, of which one with more than `max_bytes` has a single row.

    >>> batch = pa.record_batch({"text": ["a" * 4, "b" * 4, "c" * 400, "d" * 4, "e" * 4, "f" * 4]})
    >>> [part.num_rows for part in slices(batch, max_rows=4, max_bytes=100)]
    [2, 1, 1, 2]
    """
    for start in range(0, rows.num_rows, max_rows):
        yield from _halves(rows.slice(start, max_rows), max_bytes)


def _halves(rows: Rows, max_bytes: int) -> Iterator[Rows]:
    if rows.num_rows <= 1 or rows.nbytes <= max_bytes:
        yield rows
    else:
        half = rows.num_rows // 2
        yield from _halves(rows.slice(0, half), max_bytes)
        yield from _halves(rows.slice(half), max_bytes)
