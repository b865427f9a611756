"""Split a step into micro-batches under a token budget."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpo_train.batches.batch import SIDES
from dpo_train.batches.packed import ID_BYTES, concatenate, id_bytes, shared_prefix_lengths

#: Rows whose sequences share a prefix, and their number of distinct tokens.
_Group = tuple[int, list[int]]


@dataclass(frozen=True)
class TokenBudget:
    """Limits the distinct tokens of a micro-batch.

    Args:
        rows: pairs by row number.
        max_tokens: upper bound on distinct tokens per micro-batch. Prefixes too short to be shared
            (`packed.MIN_SHARED_FRACTION`) may exceed it, and so may a single pair.
        max_pairs: maximum pairs per micro-batch; None for no limit.
    """

    rows: Any
    max_tokens: int
    max_pairs: int | None = None

    def split_into_micro_batches(self, step: np.ndarray, ranks: int) -> list[list[list[int]]]:
        """Distribute the pairs of a step over ranks, each with the same number of micro-batches.

        Pairs of one prompt, and of prompts with a long common prefix, stay together as far as the budget allows. Loads
        are balanced: the micro-batches that ranks compute at the same time have about equal numbers of tokens.

        Returns: for each rank its micro-batches, each a list of rows; [~row], a pair of weight 0, where there are fewer
            pairs than micro-batches.
        """
        groups = sorted(self._prompt_groups(step, ranks), key=lambda group: -group[0])
        total = sum(tokens for tokens, _ in groups)
        limit = math.ceil(len(groups) / ranks)  # with one group per micro-batch
        per_rank = min(max(1, math.ceil(total / self.max_tokens / ranks)), limit)
        while True:
            bins = _balance(groups, per_rank * ranks)
            if per_rank == limit or all(
                len(held) == 1 or (load <= self.max_tokens and self._is_small(sum(map(len, held))))
                for load, held in bins
            ):
                break
            per_rank += 1
        bins.sort(key=lambda bin_: -bin_[0])
        batches = [[row for group in held for row in group] or [~int(step[0])] for _, held in bins]
        return [batches[rank::ranks] for rank in range(ranks)]

    def _is_small(self, pairs: int) -> bool:
        return self.max_pairs is None or pairs <= self.max_pairs

    def _prompt_groups(self, step: np.ndarray, ranks: int) -> list[_Group]:
        """Group the pairs that share a prompt, or more of it than each adds, up to the budget.

        Groups of different prompts hold at most a rank's share of the pairs, so that every rank gets some.
        """
        share = math.ceil(len(step) / ranks)
        names = ("prompt_ids", *(f"{side}_ids" for side in SIDES))
        pairs = [[id_bytes(pair[name]) for name in names] for pair in map(self.rows.__getitem__, step.tolist())]
        order = sorted(range(len(pairs)), key=lambda number: pairs[number][0])
        groups: list[_Group] = []
        previous, seen = b"", set[bytes]()
        shared = shared_prefix_lengths(*concatenate([pairs[number][0] for number in order])).tolist()
        for number, common in zip(order, shared, strict=True):
            prompt, *whole = pairs[number]
            responses = {response[:-ID_BYTES] for response in whole}  # as they are packed
            seen = seen if prompt == previous else set()
            new = (len(prompt) + sum(map(len, responses - seen))) // ID_BYTES - common
            tokens, rows = groups[-1] if groups else (0, [])
            belongs = prompt == previous or (common > new and len(rows) < share)
            if belongs and tokens + new <= self.max_tokens and self._is_small(len(rows) + 1):
                groups[-1] = (tokens + new, [*rows, int(step[number])])
                seen |= responses
            else:
                seen = responses
                groups.append(((len(prompt) + sum(map(len, responses))) // ID_BYTES, [int(step[number])]))
            previous = prompt
        return groups


def _balance(groups: Sequence[_Group], bins: int) -> list[tuple[int, list[list[int]]]]:
    """Assign groups, the largest first, each to the bin with the smallest load so far (Graham 1969).

    Returns: load and groups of each bin.
    """
    loads = [(0, number) for number in range(bins)]
    held: list[list[list[int]]] = [[] for _ in range(bins)]
    for tokens, rows in groups:
        load, number = heapq.heappop(loads)
        held[number].append(rows)
        heapq.heappush(loads, (load + tokens, number))
    return [(load, held[number]) for load, number in sorted(loads, key=lambda bin_: bin_[1])]
