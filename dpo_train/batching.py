"""From rows of token ids to the tensors of a batch. Knows no model, no files and no loss."""

from collections.abc import Mapping, Sequence
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

    A row has prompt_ids, chosen_ids and rejected_ids, and may have `row`, its number in the data set. The batch has for
    either side `*_input_ids`, `*_attention_mask` and `*_labels`, all (B, T) int64. Labels are the response's tokens.

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
        if "row" in rows[0]:
            batch["row"] = torch.tensor([row["row"] for row in rows])
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


def pairs_in(batch: Mapping[str, Tensor]) -> int:
    """How many pairs a batch holds."""
    return len(batch["chosen_input_ids"])


def right_pad(tensor: Tensor, length: int, value: int) -> Tensor:
    """A (B, T) tensor, lengthened to (B, length) on the right."""
    return torch.nn.functional.pad(tensor, (0, length - tensor.shape[1]), value=value)
