"""Explain common training failures: NaN loss, no learning, policy and reference that disagree at step 0."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from transformers.utils import logging

from dpo_data.errors import DataError, UsageError
from dpo_train.models import active_dropout
from dpo_train.reference.live import FrozenModel, LiveReference, NoReference, Reference
from dpo_train.reference.precompute import Precomputed

logger = logging.get_logger(__name__)

#: Optimizer steps after which an unchanged loss is reported; the first few may be warmup with learning rate 0.
PATIENCE = 5

#: Usual learning rate of an adapter, ten times that of all weights (alignment-handbook, TRL).
ADAPTER_LEARNING_RATE = 1e-5


#: Weights that take half the memory of float32, and the share of them that may be too large for a step.
_HALVES = (torch.bfloat16, torch.float16)
MAX_FIXED_WEIGHTS = 0.9


class NotFiniteError(DataError, FloatingPointError):
    """The loss became NaN or infinite."""

    exit_code = 1


def not_finite(origin: str, step: int) -> NotFiniteError:
    """Return the error for a pair whose loss is NaN or infinite."""
    return NotFiniteError(
        f"{origin}: the loss of this pair is NaN or infinite, at step {step}; training stops.\n"
        "  Usual reasons: a learning rate that is too high (try a tenth), fp16 overflow (use bf16), broken weights.\n"
        "  Checkpoints before this step are not affected."
    )


def warn_if_policy_is_not_reference(
    metrics: Mapping[str, Tensor],
    *,
    beta: float,
    policy: nn.Module,
    reference: Reference,
    is_noisy: bool | None = None,
) -> None:
    """Log a warning if a policy that is its own reference differs from it before the first step.

    Args:
        metrics: metrics of some pairs by name, (B,) each.
        beta: of the rewards.
        policy: the policy in training mode.
        reference: the reference made from the policy.
        is_noisy: whether the policy is known to compute something else in training mode.
    """
    # float32 log-probabilities of one sequence, computed twice, differ by about 1e-6 of their size
    tolerance = 1e-4 * beta * (1 + metrics["logps/chosen"].abs().max())
    margin = metrics["rewards/margins"].abs().max()
    if isinstance(reference, NoReference) or margin <= tolerance:
        return
    reasons = []
    if active_dropout(policy):
        reasons.append("dropout is on in the policy (disable_dropout=True turns it off)")
    elif is_noisy:
        reasons.append(
            "training mode adds noise to the policy, as neftune_noise_alpha does, and the reference has none"
        )
    dtype, weight = next(policy.parameters()).dtype, next(_own_weights(reference), None)
    if weight is not None and weight.dtype != dtype:
        reasons.append(f"dtype: the policy has {dtype}, the reference {weight.dtype}")
    if hasattr(policy, "disable_adapter"):
        reasons.append("adapter: it already has an effect on the model")
    reason = "; ".join(reasons) or "neither dropout nor dtype nor adapter differ; check concatenated_forward"
    logger.warning(
        f"Before the first step policy and reference should agree, but a margin is {margin:.3g} and the loss "
        f"{metrics['loss'].mean():.4f}: {reason}."
    )


def require_trained(policy: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Raise UsageError if all parameters are frozen, or if an optimizer holds none of those that are trained."""
    trained = {id(parameter) for parameter in policy.parameters() if parameter.requires_grad}
    if not trained:
        raise UsageError(
            "all parameters of the model are frozen, so nothing would be learned.\n"
            "  Set requires_grad of those to train, or pass peft_config for a new adapter."
        )
    if optimizer is not None and trained.isdisjoint(
        id(parameter) for group in optimizer.param_groups for parameter in group["params"]
    ):
        raise UsageError(
            "optimizers: the optimizer holds no parameter that is trained, so nothing would be learned.\n"
            "  Create it from the model that is trained; with peft_config, leave it to the arguments of the run."
        )


def warn_if_rate_is_small(learning_rate: float, policy: nn.Module) -> None:
    """Log a warning if the learning rate is one for all weights of a model, but only an adapter is trained."""
    if hasattr(policy, "disable_adapter") and 0 < learning_rate < ADAPTER_LEARNING_RATE:
        logger.warning(
            f"The learning rate {learning_rate:g} is small for an adapter, which usually takes "
            f"{ADAPTER_LEARNING_RATE:g} or more: expect little change."
        )


def warn_if_weights_round(learning_rate: float, policy: nn.Module) -> None:
    """Log a warning if most 16-bit weights are too large for a step of an Adam optimizer to change them.

    Adam moves a weight by about the learning rate. A smaller change than half the distance to the next number of the
    dtype, at least a quarter of its epsilon times the weight, is lost.
    """
    weights = [weight for weight in policy.parameters() if weight.requires_grad and weight.dtype in _HALVES]
    if not weights or learning_rate <= 0:
        return
    fixed = sum(int((weight.abs() > 4 * learning_rate / torch.finfo(weight.dtype).eps).sum()) for weight in weights)
    share = fixed / sum(weight.numel() for weight in weights)
    if share > MAX_FIXED_WEIGHTS:
        logger.warning(
            f"{share:.0%} of the {weights[0].dtype} weights cannot change by a step of the learning rate "
            f"{learning_rate:g}, which is below their rounding: expect little change.\n"
            "  Load the model in float32, and compute in bfloat16 with bf16=True; or train an adapter."
        )


def warn_if_not_learning(
    logs: Mapping[str, float], step: int, *, beta: float, policy: nn.Module, reference: Reference
) -> bool:
    """Log a warning if policy and reference still agree on every pair after some steps; return True if they do.

    Args:
        logs: the log record of the step.
        step: number of optimizer steps so far.
        beta: of the loss.
        policy: the policy.
        reference: the reference.
    """
    if step < PATIENCE or logs["rewards/margins"] != 0 or isinstance(reference, NoReference):
        return False
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    learning_rate = logs.get("learning_rate", 0.0)
    if learning_rate == 0:
        reason = "the learning rate is 0"
    elif beta == 0:
        reason = "beta is 0, and so is the gradient"
    elif _storages(trained) & _storages(_own_weights(reference)):
        reason = "the reference shares its weights with the policy"
    else:
        reason = f"the weights change too little to be visible: learning rate {learning_rate:.1e}"
    logger.warning(f"After {step} steps the loss is still {logs['loss']:.4f}: {reason}.")
    return True


def _own_weights(reference: Reference) -> Iterator[nn.Parameter]:
    """Return an iterator over the weights that a reference has in addition to the policy's."""
    model = reference.model if isinstance(reference, LiveReference | Precomputed) else None
    return model.network.parameters() if isinstance(model, FrozenModel) else iter(())


def _storages(parameters: Iterable[torch.Tensor]) -> set[int]:
    return {parameter.data_ptr() for parameter in parameters}
