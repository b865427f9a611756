"""The objective of a run: a weighted sum of losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from dpo_train.losses import DIVERGENCES, LOSSES, STEP_LOSSES, divergence_scores, inputs_of, needs_reference, terms_of


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses, called with the per-pair tensors that they take, by name.

    Attributes:
        losses: weight and options of each loss of `LOSSES`, by name.
        divergence: one of `DIVERGENCES`, for the losses that take it.
        divergence_coefficient: of alpha_divergence.
    """

    losses: Mapping[str, tuple[float, Mapping[str, float]]]
    divergence: str = field(default=DIVERGENCES[0])
    divergence_coefficient: float = 0.5

    def __str__(self) -> str:
        return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, (weight, _) in self.losses.items())

    def __call__(self, available: Mapping[str, Tensor]) -> Tensor:
        """Return the (B,) losses of pairs.

        Args:
            available: the inputs of the losses, (B,) each; see `dpo_train.losses`. `mean_logratios` is by default the
                mean of these pairs.
        """
        inputs = dict(available)
        if "mean_logratios" not in inputs:
            both = inputs["chosen_logratios"] + inputs["rejected_logratios"]
            inputs["mean_logratios"] = (both.detach().mean() / 2).expand_as(both)
        if self.divergence != DIVERGENCES[0]:
            for name in ("chosen_logratios", "rejected_logratios"):
                inputs[name] = divergence_scores(inputs[name], self.divergence, self.divergence_coefficient)
        parts = [
            weight * LOSSES[name](*(inputs[each] for each in inputs_of(LOSSES[name])), **options)
            for name, (weight, options) in self.losses.items()
        ]
        return sum(parts[1:], start=parts[0])

    def with_sft(self) -> "Objective":
        """Return this sum plus the loss `sft` with weight 1."""
        return replace(self, losses={**self.losses, "sft": (1.0, {})})

    @property
    def inputs(self) -> set[str]:
        """Names of the per-pair tensors that the losses take."""
        return {name for loss in self.losses for name in inputs_of(LOSSES[loss])}

    @property
    def terms(self) -> set[str]:
        """Names of the properties of pairs that are needed for the losses and the rewards."""
        return {name for loss in self.losses for name in terms_of(LOSSES[loss])}

    @property
    def needs_reference(self) -> bool:
        """True if a loss compares the policy with a reference."""
        return any(needs_reference(LOSSES[loss]) for loss in self.losses)

    @property
    def is_over_step(self) -> bool:
        """True if the loss of a pair depends on the other pairs of its optimizer step."""
        return not STEP_LOSSES.isdisjoint(self.losses)

    def losses_and_rewards(
        self,
        policy_chosen: Tensor,
        policy_rejected: Tensor,
        reference_chosen: Tensor,
        reference_rejected: Tensor,
        *,
        beta: float,
        terms: Mapping[str, Tensor],
        reference_free: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return losses, chosen rewards and rejected rewards, (B,) each; see `DPOTrainer.dpo_loss`."""
        chosen, rejected = policy_chosen - reference_chosen, policy_rejected - reference_rejected
        available = {
            **terms,
            "chosen_logps": policy_chosen,
            "rejected_logps": policy_rejected,
            "chosen_logratios": policy_chosen if reference_free else chosen,
            "rejected_logratios": policy_rejected if reference_free else rejected,
        }
        chosen_rewards, rejected_rewards = beta * chosen.detach(), beta * rejected.detach()
        if not self.needs_reference:
            chosen_rewards = chosen_rewards / terms["chosen_tokens"]
            rejected_rewards = rejected_rewards / terms["rejected_tokens"]
        return self(available), chosen_rewards, rejected_rewards
