"""Raw rows, the chunks in which they travel, and file formats as their reader."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dpo_data.errors import RowError, argument

#: Bytes of text, or of Arrow data, in one chunk: about 700 rows of hh-rlhf, a few hundredths of a second of work.
CHUNK_BYTES = 1 << 20

#: Code of a doubt about a row that can be read -> what to do about it.
READER_WARNINGS = {
    "duplicate_key": "JSON parsers disagree about which value counts: remove one of the two in the raw file.",
    "unbalanced_quotes": "A quote may be missing, so that several rows are one: see whether the row is what it should "
    "be, and double the quotes inside the fields of the raw file.",
}


class RawRow(NamedTuple):
    """One record of a raw file.

    Attributes:
        line: its physical line in a text file, or its number in a table; counted from 1.
        value: the record, or why it cannot be read.
        text: the record as a text file has it; None for a row of a table.
        warning: a key of `READER_WARNINGS` and a sentence, or None.
    """

    line: int
    value: dict[str, Any] | RowError
    text: str | bytes | None
    warning: tuple[str, str] | None = None

    def raw(self) -> str:
        """Return the record as valid UTF-8: as the file has it, or a table's row as JSON."""
        if isinstance(self.text, bytes):
            return self.text.decode("utf-8", "backslashreplace")
        text = json.dumps(self.value, ensure_ascii=False, default=str) if self.text is None else self.text
        return text.encode("utf-8", "surrogateescape" if self.text else "replace").decode("utf-8", "backslashreplace")


class Block(NamedTuple):
    """Consecutive records of one file, not yet parsed.

    Attributes:
        line: of the first record.
        payload: the records, as `Format.parse` takes them.
        split: the split that the file names for these records, or None.
    """

    line: int
    payload: Any
    split: str | None = None


def refuse_longer_row(size_bytes: int, max_row_bytes: int, line: int) -> None:
    """Raise OSError if a row that starts at a line is longer than allowed, so that memory stays bounded."""
    if size_bytes > max_row_bytes:
        raise OSError(
            f"the row at line {line} has more than {max_row_bytes:,} bytes; if the file is not damaged, allow longer "
            f"rows: {argument('max_row_bytes', 10 * max_row_bytes)}"
        )


@dataclass(frozen=True)
class Format:
    """A raw file format.

    Attributes:
        name: its value of `input_format`.
        suffixes: endings of its file names.
        read: yields the blocks of an open file whose rows have at most some number of bytes.
        parse: yields the rows of a payload that starts at a line.
        columns: returns the columns that a payload declares for all of its rows, or None if it declares none.
        random_access: True if a file cannot be read from a pipe or as one compressed stream.
        cells: True if every value is a string, whatever it spells.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Any, int], Iterator[Block]]
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: Callable[[Any], list[str] | None] = lambda payload: None
    random_access: bool = False
    cells: bool = False


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file, which `parse` has yet to parse.

    Attributes:
        columns: those that the format declares once for all rows.
        cells: True if every value is a string, whatever it spells.
        is_prepared: True for pairs of a prepared folder, which have an origin and a source of their own.
    """

    file: str
    split: str
    first_line: int
    payload: Any
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: list[str] | None = None
    cells: bool = False
    is_prepared: bool = False

    def rows(self) -> Iterator[RawRow]:
        """Yield the records; one that cannot be parsed comes with its `RowError`."""
        return self.parse(self.payload, self.first_line)

    def with_rows(self, rows: list[RawRow]) -> "Chunk":
        """Return a chunk of rows that are parsed already, so that no one parses them again."""
        return replace(self, payload=rows, parse=parsed_rows)


def parsed_rows(payload: list[RawRow], first_line: int) -> Iterator[RawRow]:
    """Yield the rows of a payload that is parsed already."""
    return iter(payload)


def in_blocks(rows: Iterable[RawRow], split: str | None = None) -> Iterator[Block]:
    """Yield blocks of rows that only their reader can separate."""
    block: list[RawRow] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row.text) if row.text is not None else text_size(row.value)
        if size >= CHUNK_BYTES:
            yield Block(block[0].line, block, split)
            block, size = [], 0
    if block:
        yield Block(block[0].line, block, split)


def text_size(value: Any) -> int:
    """Return the number of characters of all texts in a value.

    >>> text_size({"prompt": "Hi?", "answers": [{"text": "Yes"}, {"text": None}]})
    6
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return 0
    return sum(map(text_size, value))
