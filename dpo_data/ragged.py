"""Sequences of token ids of different lengths, joined in one array."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """N sequences of token ids, joined.

    Attributes:
        values: all ids, int32.
        offsets: (N + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]].
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> Lengths:
        """(N,) number of ids in each sequence."""
        return np.diff(self.offsets)

    @property
    def positions(self) -> "Ragged":
        """Position of each id in its own sequence, from 0; truncated like the ids, it shows which of them are left."""
        starts = np.repeat(self.offsets[:-1], self.lengths)
        return Ragged((np.arange(len(self.values)) - starts).astype(np.int32), self.offsets)

    def take(self, rows: NDArray[np.int64]) -> "Ragged":
        """Return the sequences at `rows`, (M,), in that order."""
        return self._gather(self.offsets[:-1][rows], self.lengths[rows])

    def cut_end(self, lengths: Lengths) -> "Ragged":
        """Return the first `lengths` ids, (N,), of each sequence."""
        return self.cut(np.zeros_like(lengths), lengths)

    def cut(self, starts: Lengths, lengths: Lengths) -> "Ragged":
        """Return `lengths` ids from `starts` on of each sequence; both (N,), inside the sequence."""
        if np.array_equal(lengths, self.lengths):
            return self
        return self._gather(self.offsets[:-1] + starts, lengths)

    def select(self, keep: NDArray[np.bool_]) -> "Ragged":
        """Return the sequences that `keep`, (N,), marks."""
        return self if keep.all() else self.take(np.flatnonzero(keep))

    def _gather(self, starts: NDArray[np.int64], lengths: Lengths) -> "Ragged":
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Ragged(self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)


def from_lists(ids: Sequence[Sequence[int] | NDArray[np.int32]]) -> Ragged:
    """Return sequences of ids, joined."""
    offsets = np.concatenate([[0], np.cumsum(np.fromiter(map(len, ids), np.int64, len(ids)))])
    return Ragged(np.fromiter(chain.from_iterable(ids), np.int32, offsets[-1]), offsets)


def merged(first: Ragged, second: Ragged, is_first: NDArray[np.bool_]) -> Ragged:
    """Return the sequences of `first` that `is_first`, (N,), marks, and in place of the others those of `second`."""
    if is_first.all():
        return first
    places = np.arange(len(is_first))
    places[~is_first] = len(is_first) + np.arange(len(second.lengths))
    return joined([first, second]).take(places)


def joined(parts: Sequence[Ragged]) -> Ragged:
    """Return the sequences of all parts, in order."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


def equal_rows(first: Ragged, second: Ragged) -> NDArray[np.bool_]:
    """Return (N,) True where sequence i of both has the same ids."""
    equal: NDArray[np.bool_] = first.lengths == second.lengths
    for row in np.flatnonzero(equal):
        start, other_start = first.offsets[row], second.offsets[row]
        length = first.offsets[row + 1] - start
        equal[row] = np.array_equal(
            first.values[start : start + length], second.values[other_start : other_start + length]
        )
    return equal
