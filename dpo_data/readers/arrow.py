"""Parquet, Arrow and Feather files."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpo_data.errors import RowError
from dpo_data.readers.rows import Format, RawRow
from dpo_data.readers.tables import require_distinct_columns

BATCH_ROWS = 1000


def read_parquet(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first row, slice of a batch) of a Parquet file."""
    return _sliced(pq.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS))


def read_arrow(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first row, slice of a batch) of an Arrow or Feather file."""
    return _sliced(_arrow_batches(stream))


def _arrow_batches(stream: Any) -> Iterator[Any]:
    """Yield the batches of a file in either of Arrow's two layouts."""
    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(stream)
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(pa.ipc.open_stream(stream))


def _sliced(batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    row = 1
    for batch in batches:
        require_distinct_columns(batch.schema.names)
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield row, batch.slice(start, BATCH_ROWS)
            row += min(BATCH_ROWS, batch.num_rows - start)


def parse_batch(payload: Any, first_row: int) -> Iterator[RawRow]:
    """Yield the rows of a slice of a batch."""
    try:
        rows = [RawRow(row, value, None) for row, value in enumerate(payload.to_pylist(), first_row)]
    except (ValueError, OverflowError, pa.ArrowException):
        rows = [_parse_row(payload.slice(i, 1), first_row + i) for i in range(payload.num_rows)]
    return iter(rows)


def _parse_row(payload: Any, row: int) -> RawRow:
    """Return one row of a batch with cells that Python cannot hold: invalid UTF-8, dates after the year 9999."""
    value: dict[str, Any] = {}
    broken: RowError | None = None
    for name, column in zip(payload.schema.names, payload.columns, strict=True):
        try:
            value[name] = column.to_pylist()[0]
        except UnicodeDecodeError as error:
            value[name] = f"<{error}>"
            broken = RowError("invalid_unicode", name, f"{name} is not UTF-8: {error.reason}.")
        except (ValueError, OverflowError, pa.ArrowException) as error:
            value[name] = f"<{error}>"
            broken = RowError("unreadable_row", name, f"{name} cannot be read: {error}.")
    return RawRow(row, broken or value, RawRow(row, value, None).raw() if broken else None)


def _columns(payload: Any) -> list[str]:
    names: list[str] = payload.schema.names
    return names


PARQUET = Format("parquet", (".parquet",), read_parquet, parse_batch, _columns, random_access=True)
ARROW = Format("arrow", (".arrow", ".feather"), read_arrow, parse_batch, _columns, random_access=True)
