"""Padded batches: two sequences per pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_train.batches.batch import PER_PAIR_FIELDS, SIDES, Batch


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
        for name, dtype in PER_PAIR_FIELDS:
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


def unpadded(batch: Batch, ignored: int) -> list[dict[str, Any]]:
    """The rows of a batch that `DPODataCollatorWithPadding` made.

    Args:
        batch: the batch.
        ignored: the label of prompt and padding.
    """
    rows: list[dict[str, Any]] = []
    for index in range(len(batch["chosen_input_ids"])):
        row: dict[str, Any] = {}
        for side in SIDES:
            real = batch[f"{side}_attention_mask"][index].bool()
            ids, labels = batch[f"{side}_input_ids"][index][real].cpu(), batch[f"{side}_labels"][index][real].cpu()
            row |= {"prompt_ids": ids[labels == ignored].numpy(), f"{side}_ids": ids[labels != ignored].numpy()}
        rows.append(row | {name: batch[name][index].item() for name, _ in PER_PAIR_FIELDS if name in batch})
    return rows


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
