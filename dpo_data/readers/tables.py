"""CSV and TSV files."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from dpo_data.errors import RowError
from dpo_data.readers.rows import Format, RawRow, in_chunks, parsed_rows


def read_csv(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, rows) of a CSV file, in chunks."""
    return in_chunks(_table_rows(stream, ","))


def read_tsv(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, rows) of a TSV file, in chunks."""
    return in_chunks(_table_rows(stream, "\t"))


def _table_rows(stream: Any, delimiter: str) -> Iterator[RawRow]:
    """Yield the rows of a table under its header.

    Raises: OSError: the header names a column twice, or the file ends inside a quoted field.
    """
    # TextIOWrapper needs read1, which Arrow's streams lack; the buffer adds it.
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="")
    record: list[str] = []  # the physical lines of the current record
    reader = csv.reader(_recorded(text, record), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        record.clear()
        try:
            fields = _next_record(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise OSError(f"it ends inside a quoted field that starts at line {first}") from error
            if header is None:
                raise OSError(f"the header is malformed: {error}") from error
            broken = RowError("unreadable_row", "", f"the line is not a table row: {error}.")
            yield RawRow(first, broken, "".join(record))
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            require_distinct_columns(header)
        else:
            value: dict[str, Any] | RowError = dict(zip(header, fields, strict=False))
            if len(fields) != len(header):
                value = RowError("unreadable_row", "", f"the row has {len(fields)} fields, the header {len(header)}.")
            yield RawRow(first, value, "".join(record))


def _recorded(lines: Iterable[str], record: list[str]) -> Iterator[str]:
    """Yield the lines, each appended to `record` first."""
    for line in lines:
        record.append(line)
        yield line


def _next_record(reader: Iterator[list[str]]) -> list[str]:
    """Return the next record, with fields of any length.

    The csv module has one limit for the whole process, which others rely on: it is lifted for one record at a time.
    """
    limit = csv.field_size_limit(sys.maxsize)
    try:
        return next(reader)
    finally:
        csv.field_size_limit(limit)


def require_distinct_columns(columns: list[str]) -> None:
    """Raise OSError if two columns have the same name."""
    if len(set(columns)) < len(columns):
        raise OSError(f"the header names a column twice: {', '.join(columns)}")


def header_columns(payload: list[RawRow]) -> list[str] | None:
    """Return the columns of the header, which the first readable row repeats."""
    return next((list(row.value) for row in payload if isinstance(row.value, dict)), None)


CSV = Format("csv", (".csv",), read_csv, parsed_rows, header_columns)
TSV = Format("tsv", (".tsv",), read_tsv, parsed_rows, header_columns)
