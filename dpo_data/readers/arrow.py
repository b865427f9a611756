"""Parquet, Arrow and Feather files."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpo_data.errors import RowError
from dpo_data.options import DEFAULT_MAX_ROW_BYTES
from dpo_data.readers.rows import Block, Format, RawRow
from dpo_data.readers.tables import require_distinct_columns
from dpo_data.slices import SLICE_BYTES, SLICE_ROWS, slices

#: Bytes of a block of several rows: workers have some tens of blocks at a time.
BLOCK_BYTES = 2 << 20
#: Types in which programs that know no text type write texts.
BYTES_TYPES = {"binary", "large_binary", "binary_view"}


def read_parquet(stream: Any, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES) -> Iterator[Block]:
    """Yield the blocks of a Parquet file, whose rows are limited by their own format."""
    file = pq.ParquetFile(stream)
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    row_bytes = sum(group.total_byte_size for group in groups) // max(1, file.metadata.num_rows)
    rows = min(SLICE_ROWS, max(1, SLICE_BYTES // max(1, row_bytes)))
    return _blocks(file.iter_batches(batch_size=rows))


def read_arrow(stream: Any, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES) -> Iterator[Block]:
    """Yield the blocks of an Arrow or Feather file, whose rows are limited by their own format."""
    return _blocks(_sound(_arrow_batches(stream)))


def _arrow_batches(stream: Any) -> Iterator[Any]:
    """Yield the batches of a file in either of Arrow's two layouts."""
    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(stream)
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    if start.startswith(b"FEA1"):
        raise OSError("it has version 1 of Feather, which is obsolete; write it again as Parquet")
    return iter(pa.ipc.open_stream(stream))


def _blocks(batches: Iterable[Any]) -> Iterator[Block]:
    row = 1
    for batch in batches:
        require_distinct_columns(batch.schema.names)
        for part in slices(batch, max_bytes=BLOCK_BYTES):
            yield Block(row, part)
            row += part.num_rows


def _sound(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        for column in batch.columns:
            require_sound(column)
        yield batch


def require_sound(column: Any) -> None:
    """Raise ArrowInvalid if a damaged column would make Arrow read outside its memory, which ends the process.

    Columns of Parquet files are sound, because Arrow builds them itself. A text that is not UTF-8 does no such harm:
    its row alone is refused later.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        # Arrow stops at the first such text, after the offsets of the texts and before those of the lists around them.
        column.validate()
        if hasattr(column, "offsets"):
            offsets = column.offsets.to_numpy()
            if offsets[0] < 0 or (np.diff(offsets) < 0).any() or offsets[-1] > len(column.values):
                raise pa.ArrowInvalid("the offsets of a list are damaged") from error
        for child in _children(column):
            require_sound(child)


def _children(column: Any) -> list[Any]:
    if pa.types.is_struct(column.type):
        return [column.field(index) for index in range(column.type.num_fields)]
    if pa.types.is_map(column.type):
        return [column.keys, column.items]
    if pa.types.is_nested(column.type) and hasattr(column, "values"):
        return [column.values]
    if pa.types.is_dictionary(column.type):
        return [column.dictionary]
    return []


def parse_batch(payload: Any, first_row: int) -> Iterator[RawRow]:
    """Yield the rows of a slice of a batch."""
    try:
        values = payload.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        rows = [_parse_row(payload.slice(i, 1), first_row + i) for i in range(payload.num_rows)]
    else:
        rows = [RawRow(row, value, None) for row, value in enumerate(values, first_row)]
    for name in (field.name for field in payload.schema if str(field.type) in BYTES_TYPES):
        for row in rows:
            if isinstance(row.value, dict):
                row.value[name] = _as_text(row.value[name])
    return iter(rows)


def _as_text(value: bytes | None) -> Any:
    """Return bytes as the text that they are, or as they are if they are something else."""
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


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
