"""Whether two ways to compute one batch agree, on the model itself."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dpo_train.attention import NotServedError, shared_prefixes

#: Largest relative difference of log-probabilities and of gradients, in float32 and in half precision: some hundred
#: times what rounding makes of them, and far less than a mistake would.
_TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.float64: (1e-4, 1e-3)}
_HALF_TOLERANCES = (3e-2, 1e-1)


#: Chosen and rejected log-probabilities of a batch, (B,) each, with their graph.
Way = Callable[[], tuple[Tensor, Tensor]]


def disagreement(model: nn.Module, shared: Way, padded: Way, dtype: torch.dtype) -> str | None:
    """Why sharing prompts is not to be trusted, in words; None where log-probabilities and gradients agree.

    Args:
        model: whose gradients are compared; they are gone afterwards.
        shared: with each prompt once.
        padded: with two sequences a pair.
        dtype: that the model computes in.
    """
    found: list[tuple[Tensor, list[Tensor]]] = []
    training = model.training
    model.train()
    try:
        for way in (shared, padded):
            model.zero_grad(set_to_none=True)
            with shared_prefixes(model) if way is shared else nullcontext():
                logps = torch.stack(way())
                # Different weights, so that what a prompt gives to both responses does not cancel out.
                torch.autograd.backward((logps[0] - 0.5 * logps[1]).sum())
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            found.append((logps.detach(), gradients))
    except (NotServedError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        if len(found) == 1:
            raise  # the plain way: no reason to blame the other
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    finally:
        model.zero_grad(set_to_none=True)
        model.train(training)
    (logps, gradients), (plain_logps, plain_gradients) = found
    most_logps, most_gradients = _TOLERANCES.get(dtype, _HALF_TOLERANCES)
    off = float(((logps - plain_logps).abs() / (1 + plain_logps.abs())).max())
    if not off <= most_logps:
        return f"its log-probabilities differ by {off:.1e} from those of padded sequences"
    if len(gradients) != len(plain_gradients):
        return "it gives gradients to other weights than padded sequences do"
    pairs = list(zip(gradients, plain_gradients, strict=True))
    distance = _norm([one - other for one, other in pairs]) / max(_norm([other for _, other in pairs]), 1e-30)
    if not distance <= most_gradients:
        return f"its gradients differ by {distance:.1e} from those of padded sequences"
    return None


def _norm(tensors: list[Any]) -> float:
    squares = [tensor.float().square().sum() for tensor in tensors]
    whole = [square.full_tensor() if isinstance(square, DTensor) else square for square in squares]
    return float(torch.stack(whole).sum().sqrt()) if whole else 0.0
