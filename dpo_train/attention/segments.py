"""Segments: the parts of a packed sequence and the prefixes that they share."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

#: A segment is computed in blocks of this many tokens, because the flash kernel for CPUs computes much of what a causal
#: mask hides. From `MIN_UNBLOCKED_TOKENS` on, its own blocks are as good (measured on two cores).
BLOCK_TOKENS, MIN_UNBLOCKED_TOKENS = 96, 1024


class SegmentBlocks(NamedTuple):
    """The keys of a segment, and the blocks that it is computed in.

    Attributes:
        keys: ranges of the packed sequence that the segment attends to, by position; the last one is its own.
        blocks: for each block its range of the packed sequence, and the range of the joined keys that it attends to.
    """

    keys: list[slice]
    blocks: list[tuple[slice, slice]]


@dataclass(frozen=True)
class Segments:
    """Which tokens of a packed sequence attend to which.

    Attributes:
        table: (S, 3) int64, one row per segment in the order of the sequence, which they cover without gaps: its number
            of tokens, the segment that it branches off (-1 for none), and after how many tokens of that one. A segment
            attends to those tokens, to what they attend to, and causally to itself.
    """

    table: np.ndarray
    _blocks: dict[int | None, list[SegmentBlocks]] = field(default_factory=dict, repr=False, compare=False)
    _masks: dict[tuple[int, int | None, torch.dtype, torch.device], Tensor] = field(
        default_factory=dict, repr=False, compare=False
    )
    _varlen: dict[torch.device, "VarlenInputs"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def keys(self) -> list[list[slice]]:
        """For each segment, the ranges that it attends to, by position; the last one is its own."""
        starts = np.cumsum(self.table[:, 0]) - self.table[:, 0]
        keys: list[list[slice]] = []
        for start, (length, parent, shared) in zip(starts.tolist(), self.table.tolist(), strict=True):
            own = slice(start, start + length)
            if parent < 0:
                keys.append([own])
            else:
                first = keys[parent][-1].start
                keys.append([*keys[parent][:-1], slice(first, first + shared), own])
        return keys

    def blocks(self, window: int | None) -> list[SegmentBlocks]:
        """Return the segments with the blocks that they are computed in.

        Args:
            window: number of keys that a query attends to, its own included; None for no limit.
        """
        if window not in self._blocks:
            self._blocks[window] = [SegmentBlocks(keys, _split_blocks(keys, window)) for keys in self.keys]
        return self._blocks[window]

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """Return a (queries, keys) mask, 0 where a query attends to a key and -inf elsewhere.

        The last query is at the position of the last key. The mask has the dtype and device of `like`.
        """
        known = (queries, window, like.dtype, like.device)
        if known not in self._masks:
            # The mask only depends on the distance to the last key: one for fewer keys is the end of the longest one.
            longest = max(sum(map(range_length, keys)) for keys in self.keys)
            positions = torch.arange(longest, device=like.device)
            distance = positions[longest - queries :, None] - positions
            hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            self._masks[known] = torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
        mask = self._masks[known]
        return mask[:, mask.shape[1] - keys :]

    def varlen(self, device: torch.device) -> "VarlenInputs":
        """Return the segments as inputs of `torch.nn.attention.varlen`, on a device."""
        if device not in self._varlen:
            self._varlen[device] = VarlenInputs.from_segments(self, device)
        return self._varlen[device]


def range_length(range_: slice) -> int:
    """Return the number of tokens in a range."""
    length: int = range_.stop - range_.start
    return length


def _split_blocks(keys: list[slice], window: int | None) -> list[tuple[slice, slice]]:
    """Split the last of these ranges into blocks, each with the range of the joined keys that it attends to."""
    own = keys[-1]
    before, length = sum(map(range_length, keys[:-1])), range_length(own)
    block_length = BLOCK_TOKENS if before or length < MIN_UNBLOCKED_TOKENS else length
    blocks = []
    for start in range(0, length, block_length):
        end = min(start + block_length, length)
        # With a window, no query of the block attends to the first keys.
        first = 0 if window is None else max(0, before + start - window + 1)
        blocks.append((slice(own.start + start, own.start + end), slice(first, before + end)))
    return blocks


@dataclass(frozen=True)
class VarlenInputs:
    """Segments in the form that `varlen_attn` takes.

    Attributes:
        keys: (K,) int64, the token of each key; those of a shared prefix are repeated for each segment.
        cumulative_queries: (S + 1,) int32, where the queries of each segment begin and end.
        cumulative_keys: (S + 1,) int32, where its keys begin and end.
        max_queries: largest number of queries of a segment.
        max_keys: largest number of keys of a segment.
    """

    keys: Tensor
    cumulative_queries: Tensor
    cumulative_keys: Tensor
    max_queries: int
    max_keys: int

    @classmethod
    def from_segments(cls, segments: Segments, device: torch.device) -> "VarlenInputs":
        """Build the inputs from the segments of a packed sequence."""
        lengths = segments.table[:, 0]
        key_counts = np.array([sum(map(range_length, keys)) for keys in segments.keys])
        queries, keys = (np.cumsum([0, *counts], dtype=np.int32) for counts in (lengths, key_counts))
        return cls(
            keys=torch.from_numpy(np.concatenate([np.r_[part] for keys in segments.keys for part in keys])).to(device),
            cumulative_queries=torch.from_numpy(queries).to(device),
            cumulative_keys=torch.from_numpy(keys).to(device),
            max_queries=int(lengths.max()),
            max_keys=int(key_counts.max()),
        )
