"""The texts of consecutive pairs as bytes, which are scanned at once for the few pairs that a check may object to."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

#: True for each row that a check may have a finding about.
Suspects = NDArray[np.bool_]

#: Bytes after the last text, so that the first bytes of every text can be taken.
PADDING = 64
SPACE = ord(" ")
_NOWHERE = np.empty(0, np.intp)


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
        codes: the bytes of all texts, followed by zeros.
        size: bytes of all texts.
        starts: position of the first byte of each text.
        lengths: bytes of each text.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self._data = b"".join([*texts, bytes(PADDING)])
        self.codes = np.frombuffer(self._data, np.uint8)
        self.size = len(self.codes) - PADDING
        self.lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        self._ends = np.cumsum(self.lengths)
        self.starts = self._ends - self.lengths
        self._positions: dict[int, NDArray[np.intp]] = {}
        self._found: dict[str, NDArray[np.intp]] = {}

    def none(self) -> Suspects:
        """Return no rows."""
        return np.zeros(len(self.texts), np.bool_)

    def rows_of(self, positions: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the row of each position in `codes`."""
        return np.searchsorted(self._ends, positions, "right")

    def with_any(self, positions: NDArray[np.intp]) -> Suspects:
        """Return True for the rows that have one of the positions."""
        found = self.none()
        found[self.rows_of(positions)] = True
        return found

    def positions_of(self, byte: int) -> NDArray[np.intp]:
        """Return the positions of a byte, in order."""
        if byte not in self._positions:
            # Most bytes that are looked for are nowhere, which a search for the first one shows at the speed of memory.
            is_there = byte in self._data if byte else self.size > 0
            self._positions[byte] = np.flatnonzero(self.codes[: self.size] == byte) if is_there else _NOWHERE
        return self._positions[byte]

    def find(self, needle: str) -> NDArray[np.intp]:
        """Return the positions at which a string begins, in order."""
        if needle not in self._found:
            self._found[needle] = self._find(needle.encode())
        return self._found[needle]

    def _find(self, needle: bytes) -> NDArray[np.intp]:
        # The byte by which it is looked for is a punctuation mark, if there is one: letters are too frequent.
        anchor = next((n for n, byte in enumerate(needle) if not WORD[byte] and not WHITE_SPACE[byte]), 0)
        starts = self.positions_of(needle[anchor]) - anchor
        starts = starts[starts >= 0]
        for offset, byte in enumerate(needle):
            if offset != anchor and len(starts):
                starts = starts[self.codes[starts + offset] == byte]
        if len(needle) > 1 and len(starts):
            starts = starts[self.rows_of(starts) == self.rows_of(starts + len(needle) - 1)]
        return starts

    def contains(self, *needles: str) -> Suspects:
        """Return True for the rows that contain one of the strings."""
        found = self.none()
        for needle in needles:
            found[self.rows_of(self.find(needle))] = True
        return found

    def has_control(self, controls: bytes) -> Suspects:
        """Return True for the rows that have one of these control characters below the space, or U+007F to U+009F."""
        low = np.flatnonzero(self.codes[: self.size] < SPACE)
        low = low[np.isin(self.codes[low], np.frombuffer(controls, np.uint8))]
        two_bytes = self.positions_of(0xC2)
        two_bytes = two_bytes[self.codes[two_bytes + 1] < 0xA0]
        return self.with_any(np.concatenate([low, self.positions_of(0x7F), two_bytes]))

    def bytes_at(self, positions: NDArray[np.intp], count: int) -> NDArray[np.uint8]:
        """Return `count` bytes from each position on, (N, count), whatever text they are in."""
        found: NDArray[np.uint8] = self.codes[positions[:, None] + np.arange(count)]
        return found

    def first_bytes(self, count: int) -> NDArray[np.uint8]:
        """Return the first bytes of each text, (N, count); zeros after its end."""
        found = self.bytes_at(self.starts, count)
        return np.where(np.arange(count) < self.lengths[:, None], found, 0)

    def last_byte(self) -> NDArray[np.uint8]:
        """Return the last byte of each text, (N,); zero for an empty one."""
        return np.where(self.lengths > 0, self.codes[self._ends - 1], 0)


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
