"""The order of rows in an epoch, one optimizer step at a time."""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from dpo_train.batches.budget import TokenBudget


class StepSampler:
    """Micro-batches of rows such that a step holds the same pairs however they are cut into ranks and micro-batches.

    The rows of an epoch, in random order, are cut into steps of `ranks * accumulation * micro_batch` pairs, and those
    of a step are dealt out evenly. Only an epoch's last step may hold fewer; where it leaves a rank without a pair, the
    rank gets ~row, a pair that counts nothing, because all ranks must run equally often.

    Iterating gives the micro-batches of all ranks in turn, which is how accelerate deals them out again.

    >>> sampler = StepSampler(rows=5, micro_batch=1, accumulation=1, ranks=2, seed=None)
    >>> list(sampler)
    [[0], [1], [2], [3], [4], [-5]]

    Args:
        rows: pairs of the data set.
        micro_batch: most pairs of one forward pass.
        accumulation: micro-batches of a step, on each rank.
        ranks: processes that train together.
        seed: of the order; None for that of the data set.
        drop_last: leave out an epoch's last step where it is not full.
        prompts: (rows,) int, equal for pairs of one prompt, which then come in one step; None to scatter them.
        budget: cuts each rank's part of a step into lists of rows, whatever `micro_batch` says; None for the latter.
    """

    def __init__(
        self,
        rows: int,
        *,
        micro_batch: int,
        accumulation: int,
        ranks: int,
        seed: int | None,
        drop_last: bool = False,
        prompts: np.ndarray | None = None,
        budget: "TokenBudget | None" = None,
    ) -> None:
        self._rows = rows
        self._micro_batch = micro_batch
        self._ranks = ranks
        self._step = micro_batch * accumulation * ranks
        self._seed = seed
        self._epoch = 0
        self._prompts = prompts
        self._budget = budget
        # accelerate takes a sampler of this size None as one of batches that differ in size.
        self.batch_size: int | None = None
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Give the order of that epoch from now on."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Micro-batches of an epoch, over all ranks."""
        full, left = divmod(self._rows, self._step)
        return (full * self._micro_batches(self._step) + self._micro_batches(left)) * self._ranks

    def __iter__(self) -> Iterator[list[Any]]:
        for step in self.steps(self._epoch):
            turns = self._micro_batches(len(step))
            if not turns:
                return
            if self._budget is not None:
                # The whole step in the last turn, in which gradients are exchanged: the budget alone decides the cuts.
                yield from ([] for _ in range((turns - 1) * self._ranks))
                yield from self._budget.cut(step, self._ranks)
            else:
                for batch in np.array_split(step, turns * self._ranks):
                    yield batch.tolist() or [~int(step[0])]

    def steps(self, epoch: int) -> Iterator[np.ndarray]:
        """The rows of each optimizer step of an epoch, over all ranks."""
        order = np.arange(self._rows)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
            if self._prompts is not None:
                yield from _prompts_together(order, self._prompts, self._step)
                return
        for start in range(0, self._rows, self._step):
            yield order[start : start + self._step]

    def rows_of(self, steps: int) -> np.ndarray:
        """The rows, each once and in ascending order, of the first steps from epoch 0 on."""
        seen = np.zeros(self._rows, bool)
        each = math.ceil(self._rows / self._step)
        for epoch in range(math.ceil(steps / each)):
            for rows in itertools.islice(self.steps(epoch), steps - epoch * each):
                seen[rows] = True
            if seen.all():
                break
        return np.flatnonzero(seen)

    def _micro_batches(self, pairs: int) -> int:
        """How many micro-batches each rank needs for so many pairs of a step."""
        if self.drop_last and pairs < self._step:
            return 0
        return math.ceil(pairs / (self._micro_batch * self._ranks))


def _prompts_together(order: np.ndarray, prompts: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Steps of rows in an order in which the pairs of one prompt stand in one step, where a step can hold them.

    >>> list(_prompts_together(np.array([0, 1, 2, 3, 4, 5]), np.array([7, 8, 9, 7, 9, 7]), step=3))
    [array([0, 3, 5]), array([1, 2, 4])]
    """
    _, first, number, counts = np.unique(prompts[order], return_index=True, return_inverse=True, return_counts=True)
    # Groups in the order in which their first row was drawn.
    grouped = order[np.argsort(first[number], kind="stable")]
    ends = np.cumsum(counts[np.argsort(first)])
    groups = deque(zip((ends - counts[np.argsort(first)]).tolist(), ends.tolist(), strict=True))
    taken: list[np.ndarray] = []
    room = step
    while groups:
        fitting = next((index for index, (start, end) in enumerate(groups) if end - start <= room), None)
        start, end = groups[0]
        if fitting is None or end - start > step:
            # Too many for a step, or nothing left that fills this one: only then a prompt is split.
            end = start + room
            groups[0] = (end, groups[0][1])
        else:
            start, end = groups[fitting]
            del groups[fitting]
        taken.append(grouped[start:end])
        room -= end - start
        if room == 0 or not groups:
            yield np.concatenate(taken)
            taken, room = [], step
