"""Displacement guard: finds runs in which chosen responses become unlikely while the margin grows.

DPO only compares chosen with rejected, so it may lower the probability of both and move it to responses outside the
data (Ren and Sutherland 2024, arXiv:2407.10490; Yang et al. 2025, arXiv:2502.07599). Some of it is normal.
"""

from collections.abc import Callable
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

logger = logging.get_logger(__name__)

#: Fall of the chosen log-probability per token since the first record, in nats, that is no longer normal: the
#: perplexity of chosen responses grows by two thirds.
MAX_FALL = 0.5
#: Consecutive records over which chosen must fall and the margin grow.
RECORDS = 3


class DisplacementGuard(TrainerCallback):  # type: ignore[misc]
    """Watches the log records of training, and warns the first time that they show displacement.

    Args:
        action: what to do besides: nothing (warn), end the run (stop), or call `add_sft` (sft).
        add_sft: adds the loss `sft` to that of the run.
    """

    def __init__(self, action: Literal["warn", "stop", "sft"], add_sft: Callable[[], None]) -> None:
        self.action = action
        self.add_sft = add_sft
        self._first: float | None = None  # chosen log-ratio per token in the first record, in nats
        self._recent: list[tuple[float, float]] = []  # that and the margin of the latest records, oldest first
        self._found = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start anew, or continue after the records of the checkpoint."""
        self._first, self._recent, self._found = None, [], False
        found = [self.find(record) for record in state.log_history]
        if self.action == "sft" and any(found):
            self.add_sft()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Look at the newest record."""
        warning = self.find(state.log_history[-1])
        if warning is None:
            return
        if state.is_world_process_zero:
            logger.warning(warning)
        if self.action == "sft":
            self.add_sft()
        control.should_training_stop |= self.action == "stop"

    def find(self, record: dict[str, float]) -> str | None:
        """Add a log record, and return a warning the first time that displacement is found; skip other records."""
        if "logratios/chosen_per_token" not in record:
            return None
        chosen, margin = record["logratios/chosen_per_token"], record["rewards/margins"]
        self._first = chosen if self._first is None else self._first
        self._recent = [*self._recent, (chosen, margin)][-RECORDS:]
        fall = self._first - chosen
        is_growing = all(
            later[0] < earlier[0] and later[1] > earlier[1]
            for earlier, later in zip(self._recent, self._recent[1:], strict=False)
        )
        if self._found or len(self._recent) < RECORDS or fall < MAX_FALL or not is_growing:
            return None
        self._found = True
        done = {
            "warn": "on_displacement=stop ends such a run, on_displacement=sft adds the loss sft",
            "stop": "the run ends here",
            "sft": "the loss sft is added from here on",
        }
        return (
            f"At step {record['step']}, chosen responses have lost {fall:.2f} nats per token since the first record, "
            f"while the margin grows ({margin:.3g}): the policy moves away from both responses.\n"
            "  Try a lower learning rate, a higher beta, the loss rpo or a sum with sft, or pairs that differ more; "
            f"{done[self.action]}."
        )
