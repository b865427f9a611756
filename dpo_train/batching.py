"""From rows of token ids to the tensors of a batch. Knows no model, no files and no loss."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = dict[str, Tensor]

SIDES = ("chosen", "rejected")


@dataclass(frozen=True)
class DPODataCollatorWithPadding:
    """Rows of token ids to padded tensors: prompt + chosen and prompt + rejected, each right-padded to its longest.

    A row has prompt_ids, chosen_ids and rejected_ids. The batch has for either side `*_input_ids`, `*_attention_mask`
    and `*_labels`, all (B, T) int64. Labels are the response's tokens. What else a row of `data.PairRows` has (its
    number, its weight, its score margin) goes into the batch as (B,) tensors.

    >>> collate = DPODataCollatorWithPadding()
    >>> batch = collate([{"prompt_ids": [5, 6], "chosen_ids": [7, 2], "rejected_ids": [2]},
    ...                  {"prompt_ids": [8], "chosen_ids": [9, 2], "rejected_ids": [2]}])
    >>> batch["chosen_input_ids"].tolist()
    [[5, 6, 7, 2], [8, 9, 2, 0]]
    >>> batch["chosen_labels"].tolist()
    [[-100, -100, 7, 2], [-100, 9, 2, -100]]
    >>> batch["rejected_attention_mask"].tolist()
    [[1, 1, 1], [1, 1, 0]]

    Args:
        label_pad_token_id: the label of prompt and padding.
        padding_value: the token id of padding; the attention mask hides it, so it decides nothing.
    """

    label_pad_token_id: int = -100
    padding_value: int = 0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Collate rows to one batch."""
        batch: Batch = {}
        for side in SIDES:
            batch |= {f"{side}_{name}": tensor for name, tensor in self._pad(rows, f"{side}_ids").items()}
        for name, dtype in (("row", torch.int64), ("weight", torch.float32), ("score_margin", torch.float32)):
            if name in rows[0]:
                batch[name] = torch.tensor([row[name] for row in rows], dtype=dtype)
        return batch

    def _pad(self, rows: Sequence[Mapping[str, Any]], response: str) -> Batch:
        longest = max(len(row["prompt_ids"]) + len(row[response]) for row in rows)
        input_ids = np.full((len(rows), longest), self.padding_value, dtype=np.int64)
        attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
        labels = np.full((len(rows), longest), self.label_pad_token_id, dtype=np.int64)
        for index, row in enumerate(rows):
            start = len(row["prompt_ids"])
            end = start + len(row[response])
            input_ids[index, :start] = row["prompt_ids"]
            input_ids[index, start:end] = row[response]
            attention_mask[index, :end] = 1
            labels[index, start:end] = row[response]
        return {
            "input_ids": torch.from_numpy(input_ids),
            "attention_mask": torch.from_numpy(attention_mask),
            "labels": torch.from_numpy(labels),
        }


class StepSampler:
    """Micro-batches of rows such that a step holds the same pairs however they are cut into ranks and micro-batches.

    The rows of an epoch, in random order, are cut into steps of `ranks * accumulation * micro_batch` pairs, and those
    of a step are dealt out evenly. Only an epoch's last step may hold fewer; where it leaves a rank without a pair, the
    rank gets ~row, a pair that counts nothing, because all ranks must run equally often.

    Iterating gives the micro-batches of all ranks in turn, which is how accelerate deals them out again.

    >>> sampler = StepSampler(rows=5, micro_batch=1, accumulation=1, ranks=2, seed=None)
    >>> list(sampler)
    [[0], [1], [2], [3], [4], [-1]]

    Args:
        rows: pairs of the data set.
        micro_batch: most pairs of one forward pass.
        accumulation: micro-batches of a step, on each rank.
        ranks: processes that train together.
        seed: of the order; None for that of the data set.
        drop_last: leave out an epoch's last step where it is not full.
    """

    def __init__(
        self, rows: int, *, micro_batch: int, accumulation: int, ranks: int, seed: int | None, drop_last: bool = False
    ) -> None:
        self._rows = rows
        self._micro_batch = micro_batch
        self._ranks = ranks
        self._step = micro_batch * accumulation * ranks
        self._seed = seed
        self._epoch = 0
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

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self._rows)
        if self._seed is not None:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(self._rows)
        for start in range(0, self._rows, self._step):
            step = order[start : start + self._step]
            for batch in np.array_split(step, self._micro_batches(len(step)) * self._ranks):
                yield batch.tolist() or [~int(order[0])]

    def _micro_batches(self, pairs: int) -> int:
        """How many micro-batches each rank needs for so many pairs of a step."""
        if self.drop_last and pairs < self._step:
            return 0
        return math.ceil(pairs / (self._micro_batch * self._ranks))


def pairs_in(batch: Mapping[str, Tensor]) -> float:
    """How many pairs of a batch count."""
    return float(batch["weight"].sum()) if "weight" in batch else len(batch["chosen_input_ids"])


def right_pad(tensor: Tensor, length: int, value: int) -> Tensor:
    """A (B, T) tensor, lengthened to (B, length) on the right."""
    return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)


def left_aligned_prompts(batch: Batch, *, ignored: int, padding: int) -> tuple[Tensor, Tensor]:
    """The prompts of a batch, padded on the left, as generation wants them.

    Args:
        batch: as `DPODataCollatorWithPadding` makes it.
        ignored: the label of prompt and padding.
        padding: the token id to pad with.

    Returns: ids and attention mask, (B, longest prompt).
    """
    input_ids = batch["chosen_input_ids"]
    lengths = ((batch["chosen_attention_mask"] == 1) & (batch["chosen_labels"] == ignored)).sum(1)
    longest = int(lengths.max())
    # Row i of the result is row i of the batch moved right by what it is short of the longest prompt.
    columns = torch.arange(longest, device=input_ids.device) - (longest - lengths)[:, None]
    mask = columns >= 0
    return input_ids.gather(1, columns.clamp(min=0)).where(mask, padding), mask.long()
