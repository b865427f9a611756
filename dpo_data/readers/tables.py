"""CSV and TSV files."""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from dpo_data.errors import RowError, UsageError
from dpo_data.options import DEFAULT_MAX_ROW_BYTES
from dpo_data.readers.rows import Block, Format, RawRow, in_blocks, parsed_rows, refuse_longer_row

#: Delimiters of a .csv file, of which the first one counts unless its header has none of it.
DELIMITERS = (",", ";", "\t", "|")
#: Characters of a header that decide: the csv module takes no field of more, unless its limit is lifted.
_HEADER_CHARACTERS = 100_000
#: Names of delimiters that are hard to write on a command line.
DELIMITER_NAMES = {"tab": "\t", "\\t": "\t"}


def read_table(stream: Any, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES, *, delimiter: str) -> Iterator[Block]:
    """Yield the blocks of a table."""
    return in_blocks(_table_rows(stream, delimiter, max_row_bytes))


def delimited(format_: Format, delimiter: str) -> Format:
    """Return a format of tables with another delimiter."""
    return replace(format_, read=partial(read_table, delimiter=delimiter))


def parse_delimiter(text: str | None) -> str | None:
    """Return the delimiter that a user named.

    Raises: UsageError: it is not a single character.
    """
    if text is None:
        return None
    delimiter = DELIMITER_NAMES.get(text, text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError('must be one character, or "tab".', "delimiter", text)
    return delimiter


def detect_delimiter(head: bytes) -> str:
    r"""Return the delimiter of a .csv file, from its start in UTF-8.

    >>> [detect_delimiter(head) for head in (b"q,good;bad\n", b"q;good;bad\n", b"q|good\n", b"q\n1,2\n")]
    [',', ';', '|', ',']
    """
    header = next((line for line in head.decode("utf-8", "replace").splitlines() if line.strip()), "")
    fields = {
        delimiter: len(next(csv.reader([header[:_HEADER_CHARACTERS]], delimiter=delimiter))) for delimiter in DELIMITERS
    }
    return "," if fields[","] > 1 else max(DELIMITERS, key=lambda delimiter: fields[delimiter])


def _table_rows(stream: Any, delimiter: str, max_row_bytes: int) -> Iterator[RawRow]:
    """Yield the rows of a table under its header.

    Raises: OSError: the header names a column twice, a row is too long, or the file ends inside a quoted field.
    """
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8", "surrogateescape", newline="")
    record: list[str] = []  # the physical lines of the current record
    reader = csv.reader(_recorded(text, record, max_row_bytes), delimiter=delimiter, strict=True)
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
            lines = "the line is" if len(record) == 1 else f"lines {first} to {reader.line_num}, which quotes join, are"
            broken = RowError("unreadable_row", "", f"{lines} not a table row: {error}.")
            doubt = (
                None if len(record) == 1 else ("unbalanced_quotes", f"quotes join lines {first} to {reader.line_num}.")
            )
            yield RawRow(first, broken, "".join(record), doubt)
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
            yield RawRow(first, value, "".join(record), _doubt(record, first, len(header), delimiter))


def _doubt(record: list[str], first: int, columns: int, delimiter: str) -> tuple[str, str] | None:
    """Return a warning if each physical line of a record could be a row by itself."""
    if len(record) == 1 or columns == 1 or any(line.count(delimiter) != columns - 1 for line in record):
        return None
    message = f"quotes join lines {first} to {first + len(record) - 1}, each of which has as many fields as the header."
    return "unbalanced_quotes", message


def _recorded(text: io.TextIOWrapper, record: list[str], max_row_bytes: int) -> Iterator[str]:
    """Yield the lines, each appended to `record` first; byte order marks before the first line are removed.

    Raises: OSError: the lines of a record have more than `max_row_bytes` characters.
    """
    number, size = 0, 0
    while line := text.readline(max_row_bytes + 1):
        number += 1
        size = size + len(line) if record else len(line)
        refuse_longer_row(size, max_row_bytes, number - len(record))
        record.append(line.lstrip("\ufeff") if number == 1 else line)
        yield record[-1]


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


CSV = Format("csv", (".csv",), partial(read_table, delimiter=","), parsed_rows, header_columns, cells=True)
TSV = Format("tsv", (".tsv",), partial(read_table, delimiter="\t"), parsed_rows, header_columns, cells=True)
