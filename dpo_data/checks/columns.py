"""The texts of consecutive pairs as bytes, which are scanned at once for the few pairs that a check may object to."""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

#: True for each row that a check may have a finding about.
Suspects = NDArray[np.bool_]

#: Bytes after the last text, so that the first bytes of every text can be taken.
PADDING = 32
SPACE = ord(" ")


def _table(test: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Return, for each byte, whether it is an ASCII character that passes a test."""
    return np.array([code < 0x80 and test(chr(code)) for code in range(256)])


#: Tables by byte of the ASCII letters and digits, of all that are visible, and of white space.
WORD = _table(str.isalnum)
VISIBLE = _table(lambda character: character.isprintable() and character != " ")
WHITE_SPACE = _table(str.isspace)


class TextColumn:
    """One field of N pairs.

    Attributes:
        texts: in UTF-8.
        data: all texts, joined.
        codes: the bytes of `data`, followed by zeros.
        starts: position of the first byte of each text.
        lengths: bytes of each text.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self.data = b"".join(texts)
        self.codes = np.frombuffer(self.data + bytes(PADDING), np.uint8)
        self.lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        self._ends = np.cumsum(self.lengths)
        self.starts = self._ends - self.lengths
        self._positions: dict[int, NDArray[np.intp]] = {}

    def none(self) -> Suspects:
        """Return no rows."""
        return np.zeros(len(self.texts), np.bool_)

    def rows_of(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the row of each position in `data`."""
        return np.searchsorted(self._ends, positions, "right")

    def with_any(self, positions: NDArray[np.intp]) -> Suspects:
        """Return True for the rows that have one of the positions."""
        found = self.none()
        found[self.rows_of(positions)] = True
        return found

    def find(self, needle: str) -> NDArray[np.intp]:
        """Return the positions at which a string begins, in order."""
        code = needle.encode()
        # The byte by which it is looked for is a punctuation mark, if there is one: letters are too frequent.
        anchor = next((n for n, byte in enumerate(code) if not WORD[byte] and not WHITE_SPACE[byte]), 0)
        starts = self._positions_of(code[anchor]) - anchor
        starts = starts[starts >= 0]
        for offset, byte in enumerate(code):
            if offset != anchor:
                starts = starts[self.codes[starts + offset] == byte]
        if len(code) > 1:
            starts = starts[self.rows_of(starts) == self.rows_of(starts + len(code) - 1)]
        return starts

    def contains(self, *needles: str) -> Suspects:
        """Return True for the rows that contain one of the strings."""
        found = self.none()
        for needle in needles:
            found |= self.with_any(self.find(needle))
        return found

    @cached_property
    def is_not_ascii(self) -> Suspects:
        """True for the rows that have a character beyond ASCII."""
        return self.none() if self.data.isascii() else self.with_any(np.flatnonzero(self.codes >= 0x80))

    def has_control(self, controls: bytes) -> Suspects:
        """Return True for the rows that have one of these ASCII control characters."""
        low = np.flatnonzero(self.codes[: len(self.data)] < SPACE)
        low = low[np.isin(self.codes[low], np.frombuffer(controls, np.uint8))]
        return self.with_any(np.concatenate([low, self._positions_of(0x7F)])) if 0x7F in controls else self.with_any(low)

    def bytes_at(self, positions: NDArray[np.intp], count: int) -> NDArray[np.uint8]:
        """Return `count` bytes from each position on, (N, count), whatever text they are in."""
        return self.codes[positions[:, None] + np.arange(count)]

    def first_bytes(self, count: int) -> NDArray[np.uint8]:
        """Return the first bytes of each text, (N, count); zeros after its end."""
        found = self.bytes_at(self.starts, count)
        return np.where(np.arange(count) < self.lengths[:, None], found, 0)

    def last_byte(self) -> NDArray[np.uint8]:
        """Return the last byte of each text, (N,); zero for an empty one."""
        return np.where(self.lengths > 0, self.codes[self._ends - 1], 0)

    def _positions_of(self, byte: int) -> NDArray[np.intp]:
        if byte not in self._positions:
            self._positions[byte] = np.flatnonzero(self.codes[: len(self.data)] == byte)
        return self._positions[byte]


class TextColumns:
    """N pairs in text form, without scores.

    Raises: UnicodeEncodeError: a text contains a lone surrogate.
    """

    def __init__(self, prompts: Sequence[str], chosen: Sequence[str], rejected: Sequence[str]) -> None:
        self.prompt, self.chosen, self.rejected = (
            TextColumn([text.encode() for text in texts]) for texts in (prompts, chosen, rejected)
        )

    def __len__(self) -> int:
        return len(self.prompt.texts)

    @property
    def responses(self) -> tuple[TextColumn, TextColumn]:
        """The columns of both responses."""
        return self.chosen, self.rejected

    @property
    def fields(self) -> tuple[TextColumn, TextColumn, TextColumn]:
        """The columns of all fields."""
        return self.prompt, self.chosen, self.rejected
