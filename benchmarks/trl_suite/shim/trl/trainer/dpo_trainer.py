"""TRL's data collators: ours, with both sides in one batch and TRL's keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dpo_train import DPODataCollatorWithPadding
from dpo_train.batches.padded import concatenate_sides

#: Our names of fields of a row and a batch, by TRL's.
RENAMED = {"ref_chosen_logps": "reference_chosen_logps", "ref_rejected_logps": "reference_rejected_logps"}


@dataclass
class DataCollatorForPreference:
    """Collates like `DPODataCollatorWithPadding`, and concatenates the sides like `DPOTrainer.concatenated_inputs`."""

    pad_token_id: int
    pad_to_multiple_of: int | None = None

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        collate = DPODataCollatorWithPadding(-100, self.pad_token_id, self.pad_to_multiple_of)
        batch = collate([{RENAMED.get(name, name): value for name, value in row.items()} for row in examples])
        whole = concatenate_sides(batch, padding_value=self.pad_token_id, label_pad_token_id=-100)
        return {
            "input_ids": whole["concatenated_input_ids"],
            "attention_mask": whole["concatenated_attention_mask"],
            "completion_mask": (whole["concatenated_labels"] != -100).long(),
            **{theirs: batch[ours] for theirs, ours in RENAMED.items() if ours in batch},
        }


class DataCollatorForVisionPreference:
    """Placeholder: dpo_train trains on text."""


__all__ = ["DataCollatorForPreference", "DataCollatorForVisionPreference"]
