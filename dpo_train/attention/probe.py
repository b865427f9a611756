"""Compare two ways to compute one batch on the model itself."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dpo_train.attention.register import shared_prefixes
from dpo_train.attention.support import UnsupportedModelError

#: Maximum relative difference of log-probabilities and of gradients in full and in half precision: some hundred times
#: the rounding error, and far less than a mistake would cause.
_TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.float64: (1e-4, 1e-3)}
_HALF_TOLERANCES = (3e-2, 1e-1)

#: Maximum size of a weight whose gradient is compared.
_MAX_COMPARED_VALUES = 2**16

#: Returns chosen and rejected log-probabilities of a batch, (B,) each, with their graph.
LogpsFunction = Callable[[], tuple[Tensor, Tensor]]


def disagreement(model: nn.Module, packed: LogpsFunction, padded: LogpsFunction, dtype: torch.dtype) -> str | None:
    """Return how packed results differ from padded ones; None if log-probabilities and gradients agree.

    They are compared in training mode, or in evaluation mode if training mode adds noise, as NEFTune does.

    Args:
        model: whose gradients are compared, and cleared afterwards.
        packed: computes the batch with shared prefixes.
        padded: computes it with two sequences per pair.
        dtype: dtype that the model computes in.
    """
    training = model.training
    try:
        reason = _disagreement(model.train(), packed, padded, dtype)
        if reason is not None and _is_noisy(model, padded, dtype):
            reason = _disagreement(model.eval(), packed, padded, dtype)
        return reason
    finally:
        model.train(training)


@torch.no_grad()
def _is_noisy(model: nn.Module, compute: LogpsFunction, dtype: torch.dtype) -> bool:
    """Return True if a model computes something else each time."""
    first, second = (torch.stack(compute()) for _ in range(2))
    return logp_difference(first, second, dtype) is not None


def _disagreement(model: nn.Module, packed: LogpsFunction, padded: LogpsFunction, dtype: torch.dtype) -> str | None:
    """Return how packed results differ from padded ones in the mode that the model is in."""
    results: list[tuple[Tensor, list[Tensor | None]]] = []
    try:
        for compute in (packed, padded):
            with shared_prefixes(model) if compute is packed else nullcontext():
                logps = torch.stack(compute())
                # Different weights, so that the gradients of both responses to a prompt do not cancel out.
                results.append((logps.detach(), _gradients(model, (logps[0] - 0.5 * logps[1]).sum())))
    except (UnsupportedModelError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        if len(results) == 1:
            raise  # padding failed, so packing is not the cause
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    finally:
        model.zero_grad(set_to_none=True)
    (logps, gradients), (padded_logps, padded_gradients) = results
    _, max_gradient_difference = _TOLERANCES.get(dtype, _HALF_TOLERANCES)
    if (difference := logp_difference(logps, padded_logps, dtype)) is not None:
        return f"its log-probabilities differ by {difference:.1e} from those of padded sequences"
    squares = torch.zeros(2, dtype=torch.float64)  # of the difference, and of the padded gradient
    for gradient, expected in zip(gradients, padded_gradients, strict=True):
        if gradient is None or expected is None:
            if gradient is not expected:
                return "it gives gradients to other weights than padded sequences do"
            continue
        squares += torch.tensor([_sum_of_squares(gradient - expected), _sum_of_squares(expected)], dtype=torch.float64)
    distance = float((squares[0] / squares[1].clamp(min=1e-60)).sqrt())
    if not distance <= max_gradient_difference:
        return f"its gradients differ by {distance:.1e} from those of padded sequences"
    return None


def logp_difference(logps: Tensor, expected: Tensor, dtype: torch.dtype) -> float | None:
    """Return the largest relative difference of log-probabilities if it is more than a rounding error, else None."""
    difference = float(((logps - expected).abs() / (1 + expected.abs())).max())
    return None if difference <= _TOLERANCES.get(dtype, _HALF_TOLERANCES)[0] else difference


def _gradients(model: nn.Module, objective: Tensor) -> list[Tensor | None]:
    """Return the gradients of norms, biases and other small weights, which depend on the gradients of all layers.

    Those of the large weights would need as much memory again as the model. Sharded models only support whole backward
    passes.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if any(isinstance(weight, DTensor) for weight in trained):
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(objective)
        return [weight.grad for weight in trained]
    small = [weight for weight in trained if weight.numel() <= _MAX_COMPARED_VALUES] or trained
    return list(torch.autograd.grad(objective, small, allow_unused=True)) if small else []


def _sum_of_squares(tensor: Any) -> float:
    """Return the sum of squares, over all processes if each holds a shard."""
    square = tensor.float().square().sum()
    return float(square.full_tensor() if isinstance(square, DTensor) else square)
