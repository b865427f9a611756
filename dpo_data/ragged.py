"""Ragged: rows of token ids of different lengths in one flat array."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """N sequences of token ids end to end.

    Attributes:
        values: all ids, int32.
        offsets: (N + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]].
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> Lengths:
        """(N,) tokens of each sequence."""
        return np.diff(self.offsets)

    @property
    def positions(self) -> "Ragged":
        """Where each id stands in its own sequence, from 0; cut like the ids, it tells which of them stayed."""
        starts = np.repeat(self.offsets[:-1], self.lengths)
        return Ragged((np.arange(len(self.values)) - starts).astype(np.int32), self.offsets)

    def take(self, rows: NDArray[np.int64]) -> "Ragged":
        """The sequences at `rows`, (M,), in that order."""
        return self._gather(self.offsets[:-1][rows], self.lengths[rows])

    def cut_end(self, lengths: Lengths) -> "Ragged":
        """The first `lengths` ids, (N,), of each sequence."""
        return self.cut(np.zeros_like(lengths), lengths)

    def cut(self, starts: Lengths, lengths: Lengths) -> "Ragged":
        """Of each sequence the `lengths` ids from `starts` on; both (N,), inside the sequence."""
        if np.array_equal(lengths, self.lengths):
            return self
        return self._gather(self.offsets[:-1] + starts, lengths)

    def select(self, keep: NDArray[np.bool_]) -> "Ragged":
        """The sequences that `keep`, (N,), marks."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def _gather(self, starts: NDArray[np.int64], lengths: Lengths) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Ragged(self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)


def equal_rows(one: Ragged, other: Ragged) -> NDArray[np.bool_]:
    """(N,) whether sequence i of both holds the same ids."""
    equal: NDArray[np.bool_] = one.lengths == other.lengths
    for row in np.flatnonzero(equal):
        first, second = one.offsets[row], other.offsets[row]
        length = one.offsets[row + 1] - first
        equal[row] = np.array_equal(one.values[first : first + length], other.values[second : second + length])
    return equal
