"""Whether two ways to compute one batch agree, on the model itself."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dpo_train.attention.kernels import UnsupportedModelError, shared_prefixes

#: Largest relative difference of log-probabilities and of gradients, in float32 and in half precision: some hundred
#: times what rounding makes of them, and far less than a mistake would.
_TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.float64: (1e-4, 1e-3)}
_HALF_TOLERANCES = (3e-2, 1e-1)


#: Values of a weight whose gradient is compared.
_SMALL = 2**16

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
    found: list[tuple[Tensor, list[Tensor | None]]] = []
    training = model.training
    model.train()
    try:
        for way in (shared, padded):
            with shared_prefixes(model) if way is shared else nullcontext():
                logps = torch.stack(way())
                # Different weights, so that what a prompt gives to both responses does not cancel out.
                found.append((logps.detach(), _gradients(model, (logps[0] - 0.5 * logps[1]).sum())))
    except (UnsupportedModelError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
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
    squares = torch.zeros(2, dtype=torch.float64)  # of the difference, and of the plain gradient
    for gradient, plain in zip(gradients, plain_gradients, strict=True):
        if gradient is None or plain is None:
            if gradient is not plain:
                return "it gives gradients to other weights than padded sequences do"
            continue
        squares += torch.tensor([_square(gradient - plain), _square(plain)], dtype=torch.float64)
    distance = float((squares[0] / squares[1].clamp(min=1e-60)).sqrt())
    if not distance <= most_gradients:
        return f"its gradients differ by {distance:.1e} from those of padded sequences"
    return None


def _gradients(model: nn.Module, objective: Tensor) -> list[Tensor | None]:
    """Gradients of the small weights, norms and biases of all layers: through them flows whatever else is learned.

    The large ones would cost as much memory again as the model. Sharded models only know whole backward passes.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    if any(isinstance(weight, DTensor) for weight in trained):
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(objective)
        return [weight.grad for weight in trained]
    small = [weight for weight in trained if weight.numel() <= _SMALL] or trained
    return list(torch.autograd.grad(objective, small, allow_unused=True)) if small else []


def _square(tensor: Any) -> float:
    """Sum of squares, over all processes where each holds a part."""
    square = tensor.float().square().sum()
    return float(square.full_tensor() if isinstance(square, DTensor) else square)
