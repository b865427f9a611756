"""Raw rows and the chunks in which they travel."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

from dpo_data.errors import RowError

#: Bytes of text, or of Arrow data, in one chunk: about 700 rows of hh-rlhf, a few hundredths of a second of work.
CHUNK_BYTES = 1 << 20


class RawRow(NamedTuple):
    """One record of a raw file.

    Attributes:
        line: its physical line in a text file, or its number in a table; counted from 1.
        value: the record, or why it cannot be read.
        text: the record as it stands in a text file; None of a table's.
    """

    line: int
    value: dict[str, Any] | RowError
    text: str | bytes | None

    def raw(self) -> str:
        """The record as text that is valid UTF-8: as it stands in the file, or a table's row as JSON."""
        if isinstance(self.text, bytes):
            return self.text.decode("utf-8", "backslashreplace")
        text = json.dumps(self.value, ensure_ascii=False, default=str) if self.text is None else self.text
        return text.encode("utf-8", "surrogateescape" if self.text else "replace").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file, not yet parsed.

    Attributes:
        columns: where the format declares them once for all rows.
        max_rows: how many of the records count; all when None.
        opens_file: whether these are the file's first records.
        skip: how many of the first records belong to the chunk before.
        extra: records after these that belong to the last of them.
    """

    file: str
    split: str
    first_line: int
    payload: Any
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: list[str] | None = None
    max_rows: int | None = None
    opens_file: bool = False
    skip: int = 0
    extra: tuple[RawRow, ...] = ()

    def rows(self) -> Iterator[RawRow]:
        """Parse the records, at most `max_rows` of them; a record that cannot be parsed comes with its `RowError`."""
        own = islice(self.parse(self.payload, self.first_line), self.skip, None)
        return islice(chain(own, self.extra), self.max_rows)


def parse_records(payload: list[RawRow], first_line: int) -> Iterator[RawRow]:
    """Return the rows of a chunk that its reader has parsed already."""
    return iter(payload)


def chunked(rows: Iterable[RawRow]) -> Iterator[tuple[int, list[RawRow]]]:
    """Rows that only their reader can tell apart, in chunks."""
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
