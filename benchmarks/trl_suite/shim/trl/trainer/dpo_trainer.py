"""TRL's data collators, for which dpo_train has one of another name and other keys."""

from dpo_train import DPODataCollatorWithPadding as DataCollatorForPreference


class DataCollatorForVisionPreference:
    """Placeholder: dpo_train trains on text."""


__all__ = ["DataCollatorForPreference", "DataCollatorForVisionPreference"]
