"""Displacement guard: finds runs in which chosen responses become unlikely while the margin grows.

DPO only compares chosen with rejected, so it may lower the probability of both and move it to responses outside the
data (Ren and Sutherland 2024, arXiv:2407.10490; Yang et al. 2025, arXiv:2502.07599). Some of it is normal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Fall of the chosen log-probability per token since the first record, in nats, that is no longer normal: the
#: perplexity of chosen responses grows by two thirds. Runs by the usual recipes stay within 0.2.
MAX_FALL = 0.5
#: Consecutive records over which chosen must fall and the margin grow.
RECORDS = 3


@dataclass
class DisplacementGuard:
    """Watches the log records of a run.

    Attributes:
        first: chosen log-ratio per token in the first record, in nats.
        recent: chosen log-ratio per token and margin of the latest records, oldest first.
        found: whether displacement was found.
    """

    first: float | None = None
    recent: list[tuple[float, float]] = field(default_factory=list)
    found: bool = False

    def add(self, logs: Mapping[str, float], step: int) -> str | None:
        """Add a log record of training, and return a warning the first time that displacement is found.

        Args:
            logs: the record, with logratios/chosen_per_token and rewards/margins.
            step: number of optimizer steps so far.
        """
        chosen, margin = logs["logratios/chosen_per_token"], logs["rewards/margins"]
        self.first = chosen if self.first is None else self.first
        self.recent = [*self.recent, (chosen, margin)][-RECORDS:]
        fall = self.first - chosen
        is_growing = all(
            later[0] < earlier[0] and later[1] > earlier[1]
            for earlier, later in zip(self.recent, self.recent[1:], strict=False)
        )
        if self.found or len(self.recent) < RECORDS or fall < MAX_FALL or not is_growing:
            return None
        self.found = True
        return (
            f"At step {step} the chosen responses have lost {fall:.2f} nats per token since the first record, while the "
            f"margin grows ({margin:.3g}): the policy moves away from both responses.\n"
            "  Try a lower learning rate, a higher beta, the loss rpo or a sum with sft, or pairs that differ more "
            "(on_displacement=sft adds the loss sft, on_displacement=stop ends the run)."
        )

    def state(self) -> dict[str, Any]:
        """Return the state that a checkpoint needs."""
        return {"displacement": {"first": self.first, "recent": self.recent, "found": self.found}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; start anew if it is empty."""
        saved = state.get("displacement", {})
        self.first, self.found = saved.get("first"), saved.get("found", False)
        self.recent = [(chosen, margin) for chosen, margin in saved.get("recent", [])]
