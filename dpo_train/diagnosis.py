"""What is wrong with a run, said in words. Knows no files and no loss."""

from typing import Any

import torch
from torch import Tensor, nn

from dpo_data.errors import DataError
from dpo_train.models import active_dropout

#: Optimizer steps after which a loss that has not moved at all is worth a word; the first few may be warmup at 0.
PATIENCE = 5


class NotFiniteError(DataError, FloatingPointError):
    """The loss became NaN or infinite."""

    exit_code = 1


def not_finite(origin: str, step: int) -> NotFiniteError:
    """The error for a pair whose loss is no number."""
    return NotFiniteError(
        f"{origin}: the loss of this pair is NaN or infinite, at step {step}; training stops.\n"
        "  Usual reasons: a learning rate too high (try a tenth of it), fp16 overflow (use bf16), or broken weights.\n"
        "  Checkpoints before this step are sound."
    )


def why_policy_is_not_reference(policy: nn.Module, dtype: torch.dtype | None) -> str:
    """Why a policy and the reference made of it disagree before the first step.

    Args:
        policy: the policy in training mode.
        dtype: of the reference's weights; None where it shares the policy's.
    """
    reasons = []
    if active_dropout(policy):
        reasons.append("dropout is on in the policy (disable_dropout=True switches it off)")
    own = next(policy.parameters()).dtype
    if dtype is not None and dtype != own:
        reasons.append(f"dtype: the policy has {own}, the reference {dtype}")
    if hasattr(policy, "disable_adapter"):
        reasons.append("adapter: it changes the model already")
    return "; ".join(reasons) or "neither dropout nor dtype nor adapter differ; look at concatenated_forward"


def why_nothing_is_learned(model: nn.Module, *, beta: float, learning_rate: float, reference: Any) -> str:
    """Why policy and reference still agree on every pair after some steps."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        return "all parameters are frozen"
    if learning_rate == 0:
        return "the learning rate is 0"
    if beta == 0:
        return "beta is 0, and with it the gradient"
    if _storages(trained) & _storages(getattr(reference, "model", nn.Module()).parameters()):
        return "the reference shares its weights with the policy"
    return f"the weights move too little to be seen: learning rate {learning_rate:.1e}"


def _storages(parameters: Any) -> set[int]:
    return {parameter.data_ptr() for parameter in parameters if isinstance(parameter, Tensor)}
