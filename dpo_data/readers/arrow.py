"""Parquet, Arrow and Feather."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpo_data.readers.rows import RawRow
from dpo_data.readers.tables import parse_table_row, refuse_repeated_columns


def read_parquet(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first row, slice of a batch) of a Parquet file."""
    return _sliced(pq.ParquetFile(stream).iter_batches(batch_size=1000))


def read_arrow(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first row, slice of a batch) of an Arrow or Feather file."""
    return _sliced(_arrow_batches(stream))


def _arrow_batches(stream: Any) -> Iterator[Any]:
    """Batches of a file in either of Arrow's two layouts."""
    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(stream)
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(pa.ipc.open_stream(stream))


def _sliced(batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    row = 1
    for batch in batches:
        refuse_repeated_columns(batch.schema.names)
        for start in range(0, batch.num_rows, 1000):
            yield row, batch.slice(start, 1000)
            row += min(1000, batch.num_rows - start)


def parse_batch(payload: Any, first_line: int) -> Iterator[RawRow]:
    """Yield the rows of a slice of a batch."""
    try:
        rows = [RawRow(row, value, None) for row, value in enumerate(payload.to_pylist(), first_line)]
    except (ValueError, OverflowError, pa.ArrowException):
        rows = [parse_table_row(payload.slice(i, 1), first_line + i) for i in range(payload.num_rows)]
    return iter(rows)
