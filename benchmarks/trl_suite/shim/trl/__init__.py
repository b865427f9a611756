"""TRL's names for the classes of dpo_train: what TRL's tests import, renamed and nothing else.

DPOConfig takes the options that are arguments of our DPOTrainer, and `precompute_ref_log_probs`, which we name
`precompute_reference`; False is our None, which decides by itself.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dpo_train
from dpo_data.errors import UsageError
from dpo_train.trainer.trainer import MODEL_TAGS

__version__ = "1.16.0"

#: Options of TRL's DPOConfig that are arguments of our DPOTrainer.
MOVED = {"max_length": None, "truncation_mode": "keep_end"}


class DPOConfig(dpo_train.DPOConfig):  # type: ignore[misc]
    def __init__(self, *args: Any, **options: Any) -> None:
        for name, default in MOVED.items():
            setattr(self, name, options.pop(name, default))
        if options.pop("precompute_ref_log_probs", False):
            options["precompute_reference"] = True
        super().__init__(*args, **options)


#: Arguments of the constructor of TRL 0.7's DPOTrainer that are options of our DPOConfig, by their name there.
OPTIONS = {
    "loss_type": "loss_type",
    "label_smoothing": "label_smoothing",
    "precompute_ref_log_probs": "precompute_reference",
    "generate_during_eval": "generate_during_eval",
}


class DPOTrainer(dpo_train.DPOTrainer):
    _tag_names = MODEL_TAGS

    def __init__(self, model: Any = None, ref_model: Any = None, args: Any = None, **options: Any) -> None:
        options.pop("dataset_num_proc", None)  # rows are tokenized in one process
        given = {OPTIONS[name]: options.pop(name) for name in [*options] if name in OPTIONS}
        if given:
            args = copy.copy(args)
            vars(args).update({name: value or None for name, value in given.items()})
        moved = {name: options.pop(name, getattr(args, name, default)) for name, default in MOVED.items()}
        with renamed_messages():
            super().__init__(model, ref_model, args=args, **moved, **options)

    def evaluate(self, *args: Any, **options: Any) -> Any:
        with renamed_messages():
            return super().evaluate(*args, **options)


@contextmanager
def renamed_messages() -> Iterator[None]:
    """Raise errors of arguments with TRL's name of the option that has another one here."""
    try:
        yield
    except UsageError as error:
        raise ValueError(str(error).replace("precompute_reference", "precompute_ref_log_probs")) from error
