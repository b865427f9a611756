"""Order of rows in an epoch, one optimizer step at a time."""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from dpo_train.batches.budget import TokenBudget


class StepSampler:
    """Yields micro-batches of rows; an optimizer step has the same pairs for any number of ranks and micro-batches.

    The rows of an epoch, in random order, are split into steps of `ranks * accumulation * micro_batch` pairs, and a
    step is distributed evenly. Only the last step of an epoch may have fewer pairs; a rank that would get none gets
    ~row, a pair of weight 0, because all ranks must run the same number of batches.

    Micro-batches are yielded for all ranks in turn, which is the order in which accelerate distributes them.

    >>> sampler = StepSampler(rows=5, micro_batch=1, accumulation=1, ranks=2, seed=None)
    >>> list(sampler)
    [[0], [1], [2], [3], [4], [-5]]

    Args:
        rows: number of pairs in the dataset.
        micro_batch: maximum pairs per forward pass.
        accumulation: micro-batches per step and rank.
        ranks: number of processes that train together.
        seed: seed of the order; None for the order of the dataset.
        drop_last: skip the last step of an epoch if it is not full.
        prompts: (rows,) int, equal for pairs of one prompt, which are placed in the same step; None to scatter them.
        budget: splits a step by tokens instead of by `micro_batch`; None to use the latter.
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
        budget: TokenBudget | None = None,
    ) -> None:
        self._rows = rows
        self._micro_batch = micro_batch
        self._ranks = ranks
        self._step = micro_batch * accumulation * ranks
        self._seed = seed
        self._epoch = 0
        self._prompts = prompts
        self._budget = budget
        # accelerate treats a sampler with batch_size None as one whose batches differ in size.
        self.batch_size: int | None = None
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Switch to the order of an epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of micro-batches per epoch, over all ranks."""
        full, left = divmod(self._rows, self._step)
        return (full * self._micro_batches(self._step) + self._micro_batches(left)) * self._ranks

    def __iter__(self) -> Iterator[list[Any]]:
        for step in self.steps(self._epoch):
            turns = self._micro_batches(len(step))
            if not turns:
                return
            if self._budget is not None:
                # The whole step comes in the last turn, the one in which gradients are synchronized.
                yield from ([] for _ in range((turns - 1) * self._ranks))
                yield from self._budget.split_into_micro_batches(step, self._ranks)
            else:
                for batch in np.array_split(step, turns * self._ranks):
                    yield batch.tolist() or [~int(step[0])]

    def steps(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the rows of each optimizer step of an epoch, over all ranks."""
        order = np.arange(self._rows)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._rows)
            if self._prompts is not None:
                yield from _steps_with_whole_prompts(order, self._prompts, self._step)
                return
        for start in range(0, self._rows, self._step):
            yield order[start : start + self._step]

    def rows_of(self, steps: int) -> np.ndarray:
        """Return the distinct rows of the first steps, counted from epoch 0, in ascending order."""
        seen = np.zeros(self._rows, bool)
        per_epoch = math.ceil(self._rows / self._step)
        for epoch in range(math.ceil(steps / per_epoch)):
            for rows in itertools.islice(self.steps(epoch), steps - epoch * per_epoch):
                seen[rows] = True
            if seen.all():
                break
        return np.flatnonzero(seen)

    def _micro_batches(self, pairs: int) -> int:
        """Return how many micro-batches each rank needs for a step of this many pairs."""
        if self.drop_last and pairs < self._step:
            return 0
        return math.ceil(pairs / (self._micro_batch * self._ranks))


def _steps_with_whole_prompts(order: np.ndarray, prompts: np.ndarray, step: int) -> Iterator[np.ndarray]:
    """Yield steps of rows with all pairs of a prompt in one step, if they fit into one.

    >>> list(_steps_with_whole_prompts(np.array([0, 1, 2, 3, 4, 5]), np.array([7, 8, 9, 7, 9, 7]), step=3))
    [array([0, 3, 5]), array([1, 2, 4])]
    """
    _, first, number, counts = np.unique(prompts[order], return_index=True, return_inverse=True, return_counts=True)
    # Groups are ordered by the position of their first row.
    grouped = order[np.argsort(first[number], kind="stable")]
    ends = np.cumsum(counts[np.argsort(first)])
    groups = deque(zip((ends - counts[np.argsort(first)]).tolist(), ends.tolist(), strict=True))
    taken: list[np.ndarray] = []
    room = step
    while groups:
        fitting = next((index for index, (start, end) in enumerate(groups) if end - start <= room), None)
        start, end = groups[0]
        if fitting is None or end - start > step:
            # A prompt is split only if it exceeds a step, or if no other group fits into this one.
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
