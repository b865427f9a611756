"""Raw files of a conversion: their chunks, of which the first can be read ahead, and how far the reading is."""

from collections.abc import Iterator, Sequence
from itertools import chain

from dpo_data.readers.inputs import InputFile
from dpo_data.readers.rows import Chunk, RawRow
from dpo_data.sources.fields import Row

#: Bytes of a file that are read ahead at most.
MAX_BYTES_AHEAD = 1 << 26


class RawInputs:
    """Raw files that are read once, in order.

    Attributes:
        files: the files.
    """

    def __init__(self, files: Sequence[InputFile]) -> None:
        self.files = files
        sizes = [file.size_bytes() for file in files]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        self._bytes_before = 0
        self._position = 0
        self._first: Iterator[Chunk] | None = None

    def first_rows(self, count: int) -> list[Row]:
        """Return the readable ones among the first rows of the first file, which `chunks` yields again.

        At least `count` rows are read, unless the file has fewer or they have more than `MAX_BYTES_AHEAD`.

        Raises: InputError: the file cannot be read.
        """
        chunks = self.files[0].chunks(self._on_read)
        ahead: list[Chunk] = []
        read: list[RawRow] = []
        while len(read) < count and self._position < MAX_BYTES_AHEAD and (chunk := next(chunks, None)) is not None:
            rows = list(chunk.rows())
            read += rows
            ahead.append(chunk.with_rows(rows))  # no row is parsed twice
        self._first = chain(ahead, chunks)
        return [row.value for row in read[:count] if isinstance(row.value, dict)]

    def chunks(self) -> Iterator[tuple[InputFile, Iterator[Chunk]]]:
        """Yield each file with its chunks, which must be taken before the next file.

        Raises: InputError: a file cannot be read.
        """
        for file in self.files:
            chunks, self._first = self._first, None
            yield file, chunks if chunks is not None else file.chunks(self._on_read)
            self._bytes_before, self._position = self._bytes_before + (file.size_bytes() or 0), 0

    def fraction_read(self) -> float | None:
        """Return the share of all bytes that has been read, or None if the total is unknown."""
        return (self._bytes_before + self._position) / self._total if self._total else None

    def _on_read(self, position: int) -> None:
        self._position = position
