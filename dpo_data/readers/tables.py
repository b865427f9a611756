"""CSV and TSV."""

import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from dpo_data.errors import RowError
from dpo_data.readers.rows import RawRow, chunked


def refuse_repeated_columns(columns: list[str]) -> None:
    """Raise OSError if two columns have the same name."""
    if len(set(columns)) < len(columns):
        raise OSError(f"the header names a column twice: {', '.join(columns)}")


def _csv_rows(stream: Any, delimiter: str) -> Iterator[RawRow]:
    """The rows of a table under its header.

    Raises: OSError: the header names a column twice, or the file ends inside a quoted field.
    """
    csv.field_size_limit(sys.maxsize)
    # TextIOWrapper wants read1, which Arrow's streams lack; the buffer adds it.
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="")
    record: list[str] = []  # the physical lines of the record at hand
    reader = csv.reader((record.append(line) or line for line in text), delimiter=delimiter, strict=True)  # type: ignore[func-returns-value]
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        record.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise OSError(f"it ends inside a quoted field that starts at line {first}") from error
            if header is None:
                raise OSError(f"the header is malformed: {error}") from error
            yield RawRow(
                first, RowError("unreadable_row", "", f"the line is not a table row: {error}."), "".join(record)
            )
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            refuse_repeated_columns(header)
        else:
            value: dict[str, Any] | RowError = dict(zip(header, fields, strict=False))
            if len(fields) != len(header):
                value = RowError("unreadable_row", "", f"the row has {len(fields)} fields, the header {len(header)}.")
            yield RawRow(first, value, "".join(record))


def read_csv(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, records) of a CSV file, in chunks."""
    return chunked(_csv_rows(stream, ","))


def read_tsv(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, records) of a TSV file, in chunks."""
    return chunked(_csv_rows(stream, "\t"))


def parse_table_row(payload: Any, row: int) -> RawRow:
    """One row of a batch, some of whose cells Python cannot hold: text that is no UTF-8, dates after the year 9999."""
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
