"""Samples of rows that are chosen by a keyed permutation, in memory that does not grow with the rows.

Source: Black and Rogaway 2002, Ciphers with arbitrary finite domains (a Feistel network with cycle walking).
"""

from fractions import Fraction
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from dpo_data.shaping.rows import Positions

ROUNDS = 6
#: Rows whose selected ones are counted together.
BLOCK_ROWS = 1 << 16


class Sample:
    """A sample of exactly `size` of `rows` rows; a larger sample with the same key contains it.

    Args:
        key: decides which rows are in the sample.
        rows: number of rows.
        size: rows in the sample, at most `rows`.
    """

    def __init__(self, key: str, rows: int, size: int) -> None:
        digest = blake2b(key.encode(), digest_size=8 * ROUNDS).digest()
        self._keys = np.frombuffer(digest, np.uint64)
        self._rows = rows
        self._size = size
        self._half_bits = max(1, ((max(rows, 2) - 1).bit_length() + 1) // 2)
        # Blocks are read one after the other, each in many pieces.
        self._block: tuple[int, Positions] = (-1, np.empty(0, np.int64))
        blocks = range(-(-rows // BLOCK_ROWS)) if 0 < size < rows else ()
        self._ends = np.cumsum([len(self._selected(block)) for block in blocks], dtype=np.int64)

    def contains(self, positions: Positions) -> NDArray[np.bool_]:
        """Return whether the rows at positions are in the sample, (N,)."""
        if not 0 < self._size < self._rows:
            return np.full(len(positions), self._size > 0)
        return self._permuted(positions) < self._size

    def positions(self, start: int, stop: int) -> Positions:
        """Return the positions of the rows of the sample from the `start`-th to before the `stop`-th, ascending."""
        if self._size == self._rows or start >= stop:
            return np.arange(start, stop)
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        before = int(self._ends[first - 1]) if first else 0
        found = [self._selected(block) for block in range(int(first), int(last) + 1)]
        return np.concatenate(found)[start - before : stop - before]

    def _selected(self, block: int) -> Positions:
        """Return the positions of the rows of a block that are in the sample."""
        if self._block[0] != block:
            start = block * BLOCK_ROWS
            positions = np.arange(start, min(start + BLOCK_ROWS, self._rows))
            self._block = block, positions[self._permuted(positions) < self._size]
        return self._block[1]

    def _permuted(self, positions: Positions) -> Positions:
        """Return where a permutation of all rows takes the rows at positions."""
        values = self._network(positions.astype(np.uint64))
        while (outside := values >= self._rows).any():
            values[outside] = self._network(values[outside])
        return values.astype(np.int64)

    def _network(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        bits, mask = np.uint64(self._half_bits), np.uint64((1 << self._half_bits) - 1)
        left, right = values >> bits, values & mask
        for key in self._keys:
            left, right = right, left ^ (mixed_bits(right ^ key) & mask)
        return (left << bits) | right


def rounded(value: Fraction) -> int:
    """Return the nearest integer, halves up.

    >>> [rounded(Fraction(number, 2)) for number in (1, 2, 3)]
    [1, 1, 2]
    """
    return int((2 * value + 1) // 2)


def mixed_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return 64-bit hashes (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
