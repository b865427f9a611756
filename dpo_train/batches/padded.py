"""Padded batches: two sequences per pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_data.errors import UsageError
from dpo_train.batches.batch import SIDES, pair_fields


@dataclass(frozen=True, init=False)
class DPODataCollatorWithPadding:
    """Collates rows of token ids to padded tensors: prompt + chosen and prompt + rejected, each padded on the right.

    A row has prompt_ids, chosen_ids and rejected_ids. The batch has for each side `*_input_ids`, `*_attention_mask`
    and `*_labels`, all (B, T) int64; labels are the tokens of the response. Row number, weight and score margin of rows
    that have them become (B,) tensors `row`, `weight` and `score_margin`.

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
        label_pad_token_id: label of prompt and padding tokens.
        padding_value: token id of padding; it has no effect on results, because the attention mask hides it.
        pad_to_multiple_of: pad to a multiple of this many tokens; None for the longest sequence.
    """

    label_pad_token_id: int = -100
    padding_value: int = 0
    pad_to_multiple_of: int | None = None

    def __init__(
        self,
        label_pad_token_id: int = -100,
        padding_value: int = 0,
        pad_to_multiple_of: int | None = None,
        **options: Any,
    ) -> None:
        """Raise UsageError for other options, such as the tokenizer and the lengths of TRL's collator."""
        if options or not isinstance(label_pad_token_id, int):
            names = ", ".join(options) or "the first argument"
            raise UsageError(
                f"DPODataCollatorWithPadding: {names}: it only pads token ids, with label_pad_token_id, padding_value "
                "and pad_to_multiple_of.\n  Pass tokenizer and lengths to DPOTrainer, and leave out data_collator."
            )
        object.__setattr__(self, "label_pad_token_id", label_pad_token_id)
        object.__setattr__(self, "padding_value", padding_value)
        object.__setattr__(self, "pad_to_multiple_of", pad_to_multiple_of)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows to one batch."""
        batch: dict[str, Any] = {}
        for side in SIDES:
            batch |= {f"{side}_{name}": tensor for name, tensor in self._pad(rows, f"{side}_ids").items()}
        return batch | pair_fields(rows)

    def _pad(self, rows: Sequence[Mapping[str, Any]], response: str) -> dict[str, Tensor]:
        longest = max(len(row["prompt_ids"]) + len(row[response]) for row in rows)
        longest += -longest % (self.pad_to_multiple_of or 1)
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


def concatenate_sides(batch: Mapping[str, Tensor], *, padding_value: int, label_pad_token_id: int) -> dict[str, Tensor]:
    """Return `concatenated_*` tensors, (2B, longest T): the chosen, then the rejected sequences, padded on the right.

    Args:
        batch: `chosen_*` and `rejected_*`, each (B, T); T may differ between the sides.
        padding_value: token id of padding.
        label_pad_token_id: label of padding.
    """
    longest = max(batch[f"{side}_input_ids"].shape[1] for side in SIDES)
    paddings = {"input_ids": padding_value, "attention_mask": 0, "labels": label_pad_token_id}
    concatenated = {}
    for name, value in paddings.items():
        sides = [batch[f"{side}_{name}"] for side in SIDES]
        padded = [torch.nn.functional.pad(side, (0, longest - side.shape[1]), value=value) for side in sides]
        concatenated[f"concatenated_{name}"] = torch.cat(padded)
    return concatenated
