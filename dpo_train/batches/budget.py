"""Split a step into micro-batches under a token budget."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpo_train.batches.batch import SIDES
from dpo_train.batches.packed import _BYTES, _bytes, concatenate, shared_prefix_lengths


@dataclass(frozen=True)
class TokenBudget:
    """Cuts the pairs of a step into micro-batches by the distinct tokens that they hold.

    Args:
        rows: the pairs, by row number.
        most_tokens: of a micro-batch, but for those that are not worth a branch (one in 64). A pair that alone has more
            makes a micro-batch of its own.
    """

    rows: Any
    most_tokens: int

    def cut(self, step: np.ndarray, parts: int) -> list[list[list[int]]]:
        """Deal the pairs of a step out to so many parts, all of them with equally many micro-batches.

        Pairs of one prompt, and of prompts that begin alike, stay together as long as the budget allows. Loads are
        balanced: of the micro-batches that run at one time, the parts have about equal ones.

        Returns: for each part its micro-batches, each a list of rows; [~row], which counts nothing, where there are
            fewer pairs than micro-batches.
        """
        units = sorted(self._units(step, parts), key=lambda unit: -unit[0])
        total = sum(tokens for tokens, _ in units)
        most = math.ceil(len(units) / parts)  # then each has a micro-batch of its own
        each = min(max(1, math.ceil(total / self.most_tokens / parts)), most)
        while True:
            bins = _spread(units, each * parts)
            if each == most or all(load <= self.most_tokens or len(held) == 1 for load, held in bins):
                break
            each += 1
        bins.sort(key=lambda bin_: -bin_[0])
        batches = [[row for unit in held for row in unit] or [~int(step[0])] for _, held in bins]
        return [batches[part::parts] for part in range(parts)]

    def _units(self, step: np.ndarray, parts: int) -> list[tuple[int, list[int]]]:
        """Distinct tokens and rows of what stays together, up to the budget.

        That is the pairs of one prompt, and those of prompts that have more in common than is new of each; of the
        latter no more than a part's share of the pairs, for all parts have to get some.
        """
        share = math.ceil(len(step) / parts)
        names = ("prompt_ids", *(f"{side}_ids" for side in SIDES))
        pairs = [[_bytes(pair[name]) for name in names] for pair in map(self.rows.__getitem__, step.tolist())]
        order = sorted(range(len(pairs)), key=lambda number: pairs[number][0])
        units: list[tuple[int, list[int]]] = []
        before, seen = b"", set[bytes]()
        shared = shared_prefix_lengths(*concatenate([pairs[number][0] for number in order])).tolist()
        for number, common in zip(order, shared, strict=True):
            prompt, *whole = pairs[number]
            responses = {response[:-_BYTES] for response in whole}  # as they are packed
            seen = seen if prompt == before else set()
            new = (len(prompt) + sum(map(len, responses - seen))) // _BYTES - common
            tokens, rows = units[-1] if units else (0, [])
            alike = prompt == before or (common > new and len(rows) < share)
            if alike and tokens + new <= self.most_tokens:
                units[-1] = (tokens + new, [*rows, int(step[number])])
                seen |= responses
            else:
                seen = responses
                units.append(((len(prompt) + sum(map(len, responses))) // _BYTES, [int(step[number])]))
            before = prompt
        return units


def _spread(units: Sequence[tuple[int, list[int]]], bins: int) -> list[tuple[int, list[list[int]]]]:
    """Units, the largest first, each to the bin that holds least so far (Graham 1969): its load and its units."""
    loads = [(0, number) for number in range(bins)]
    held: list[list[list[int]]] = [[] for _ in range(bins)]
    for tokens, rows in units:
        load, number = heapq.heappop(loads)
        held[number].append(rows)
        heapq.heappush(loads, (load + tokens, number))
    return [(load, held[number]) for load, number in sorted(loads, key=lambda bin_: bin_[1])]
