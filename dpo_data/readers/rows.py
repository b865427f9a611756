"""Raw rows, the chunks in which they travel, and file formats as their reader."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dpo_data.errors import RowError

#: Bytes of text, or of Arrow data, in one chunk: about 700 rows of hh-rlhf, a few hundredths of a second of work.
CHUNK_BYTES = 1 << 20


class RawRow(NamedTuple):
    """One record of a raw file.

    Attributes:
        line: its physical line in a text file, or its number in a table; counted from 1.
        value: the record, or why it cannot be read.
        text: the record as a text file has it; None for a row of a table.
    """

    line: int
    value: dict[str, Any] | RowError
    text: str | bytes | None

    def raw(self) -> str:
        """Return the record as valid UTF-8: as the file has it, or a table's row as JSON."""
        if isinstance(self.text, bytes):
            return self.text.decode("utf-8", "backslashreplace")
        text = json.dumps(self.value, ensure_ascii=False, default=str) if self.text is None else self.text
        return text.encode("utf-8", "surrogateescape" if self.text else "replace").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Format:
    """A raw file format.

    Attributes:
        name: its value of `input_format`.
        suffixes: endings of its file names.
        read: yields the first line and the payload of each chunk of an open file.
        parse: yields the rows of a payload that starts at a line.
        columns: returns the columns that a payload declares for all of its rows, or None if it declares none.
        random_access: True if a file cannot be read from a pipe or as one compressed stream.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Any], Iterator[tuple[int, Any]]]
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: Callable[[Any], list[str] | None] = lambda payload: None
    random_access: bool = False


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file, which `parse` has yet to parse.

    Attributes:
        columns: those that the format declares once for all rows.
    """

    file: str
    split: str
    first_line: int
    payload: Any
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: list[str] | None = None

    def rows(self) -> Iterator[RawRow]:
        """Yield the records; one that cannot be parsed comes with its `RowError`."""
        return self.parse(self.payload, self.first_line)

    def with_rows(self, rows: list[RawRow]) -> "Chunk":
        """Return a chunk of rows that are parsed already, so that no one parses them again."""
        return replace(self, payload=rows, parse=parsed_rows)


def parsed_rows(payload: list[RawRow], first_line: int) -> Iterator[RawRow]:
    """Yield the rows of a payload that is parsed already."""
    return iter(payload)


def in_chunks(rows: Iterable[RawRow]) -> Iterator[tuple[int, list[RawRow]]]:
    """Yield (first line, rows) of chunks of rows that only their reader can separate."""
    chunk: list[RawRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.text or "")
        if size >= CHUNK_BYTES:
            yield chunk[0].line, chunk
            chunk, size = [], 0
    if chunk:
        yield chunk[0].line, chunk
