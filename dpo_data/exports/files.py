"""Writers of exported lines: JSON Lines, and Parquet where every column has one type."""

import json
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from dpo_data.exports.format import Line

#: Lines of a row group of Parquet.
GROUP_LINES = 10_000


class LineWriter(Protocol):
    """Writer of the lines of a split.

    Attributes:
        path: the file.
        lines: number of lines so far.
    """

    path: Path
    lines: int

    def write(self, line: Line) -> None:
        """Append a line."""

    def close(self) -> None:
        """Finish the file."""


def line_writer(folder: Path, split: str, file_format: str, schema: pa.Schema | None) -> LineWriter:
    """Return the writer of a split.

    Args:
        folder: where its file will be.
        split: which the name of the file begins with.
        file_format: jsonl or parquet.
        schema: of the columns; None for JSON Lines.
    """
    path = folder / f"{split}.{file_format}"
    return JsonLines(path) if schema is None else Parquet(path, schema)


class JsonLines:
    """Writer of one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = 0
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, line: Line) -> None:
        """Append a line."""
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.lines += 1

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Parquet:
    """Writer of a table, a row group at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.lines = 0
        self._schema = schema
        self._buffer: list[dict[str, Any]] = []
        self._writer = pq.ParquetWriter(path, schema)

    def write(self, line: Line) -> None:
        """Append a line."""
        self._buffer.append(line)
        self.lines += 1
        if len(self._buffer) == GROUP_LINES:
            self._flush()

    def close(self) -> None:
        """Finish the file."""
        if self._buffer:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._buffer, self._schema))
        self._buffer = []
