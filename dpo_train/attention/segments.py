"""Segments: the packed sequences of a micro-batch and the prefixes that they share."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Tokens of a piece of a long segment, and the length from which the kernel's own blocks are as good (on two cores).
_PIECE, _LEAST_UNCUT = 96, 1024


#: Where the keys of a segment lie, and its pieces: their places, and which of those keys they see.
Stretch = tuple[list[slice], list[tuple[slice, slice]]]


@dataclass(frozen=True)
class Segments:
    """Which stretch of a packed sequence sees what.

    Attributes:
        table: (S, 3) int64, in the order of the sequence and covering it without a gap: tokens of the segment, the
            segment that it branches off or -1, and how many tokens of that one it comes behind. It sees these, what
            they see, and itself.
    """

    table: np.ndarray
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def keys(self) -> list[list[slice]]:
        """Of each segment, the places of all that it sees, by position; the last are its own."""
        if "keys" not in self._cache:
            starts = np.cumsum(self.table[:, 0]) - self.table[:, 0]
            keys: list[list[slice]] = []
            for start, (length, parent, behind) in zip(starts.tolist(), self.table.tolist(), strict=True):
                own = slice(start, start + length)
                if parent < 0:
                    keys.append([own])
                else:
                    first = keys[parent][-1].start
                    keys.append([*keys[parent][:-1], slice(first, first + behind), own])
            self._cache["keys"] = keys
        found: list[list[slice]] = self._cache["keys"]
        return found

    def stretches(self, window: int | None) -> list[Stretch]:
        """What is computed together.

        A segment is cut into pieces that see those before them. The kernel computes much of what a causal mask hides,
        and so there is less of that.

        Args:
            window: keys that a query sees, its own included; None for all before it.
        """
        if window not in self._cache:
            self._cache[window] = [(places, _cut(places, window)) for places in self.keys()]
        stretches: list[Stretch] = self._cache[window]
        return stretches

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """(queries, keys), 0 where a query sees a key and -inf where not; the last query sees the last key."""
        known = (queries, window, like.dtype, like.device)
        if known not in self._cache:
            # What is seen only depends on how far before the last key it is: fewer keys are the last of the most.
            most = max(sum(map(segment_length, places)) for places in self.keys())
            places = torch.arange(most, device=like.device)
            behind = places[most - queries :, None] - places
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            self._cache[known] = torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
        mask: Tensor = self._cache[known]
        return mask[:, mask.shape[1] - keys :]

    def varlen(self, device: torch.device) -> "VarlenInputs":
        """The same for `torch.nn.attention.varlen`, on a device."""
        if device not in self._cache:
            self._cache[device] = VarlenInputs.of(self, device)
        inputs: VarlenInputs = self._cache[device]
        return inputs


def segment_length(place: slice) -> int:
    """Return the number of tokens in a slice."""
    length: int = place.stop - place.start
    return length


def _cut(places: list[slice], window: int | None) -> list[tuple[slice, slice]]:
    """Pieces of the last of these places, and which of the keys at all of them each sees."""
    own = places[-1]
    before, length = sum(map(segment_length, places[:-1])), segment_length(own)
    most = _PIECE if before or length < _LEAST_UNCUT else length
    pieces = []
    for done in range(0, length, most):
        until = min(done + most, length)
        # With a window, the first keys are out of everybody's sight.
        first = 0 if window is None else max(0, before + done - window + 1)
        pieces.append((slice(own.start + done, own.start + until), slice(first, before + until)))
    return pieces


@dataclass(frozen=True)
class VarlenInputs:
    """Segments as `varlen_attn` takes them.

    Attributes:
        keys: (K,) int64, the token behind each key: what a segment branches off is repeated before it.
        cumulative_queries: (S + 1,) int32, where each segment's queries begin and end.
        cumulative_keys: (S + 1,) int32, the same of the keys.
        most_queries: of any segment.
        most_keys: of any segment.
    """

    keys: Tensor
    cumulative_queries: Tensor
    cumulative_keys: Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, segments: Segments, device: torch.device) -> "VarlenInputs":
        """From the segments of a packed sequence."""
        places = segments.keys()
        lengths, seen = segments.table[:, 0], np.array([sum(map(segment_length, each)) for each in places])
        queries, keys = (np.cumsum([0, *counts], dtype=np.int32) for counts in (lengths, seen))
        return cls(
            keys=torch.from_numpy(np.concatenate([np.r_[place] for each in places for place in each])).to(device),
            cumulative_queries=torch.from_numpy(queries).to(device),
            cumulative_keys=torch.from_numpy(keys).to(device),
            most_queries=int(lengths.max()),
            most_keys=int(seen.max()),
        )
