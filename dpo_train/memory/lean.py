"""Models that keep and make less for their backward pass than their modules do by themselves. Knows no batch."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.tensor import DTensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

#: Whether modules that look like gated MLPs have been found to be some.
_FOUND_GATED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def recompute_gated_mlp(network: Any) -> Iterator[None]:
    """Let gated MLPs keep two tensors of their inner size instead of four; backward makes the other two again.

    Of down(act(gate) * up), products of matrices are never made again. Modules are replaced that compute exactly this,
    which is tried on a token the first time; none where the model checkpoints whole layers.

    Args:
        network: a transformers model.
    """
    modules = list(network.modules())
    if any(getattr(module, "gradient_checkpointing", False) for module in modules):
        modules = []
    with _forwards({module: functools.partial(_gated, module) for module in modules if _is_gated(module)}):
        yield


def _gated(mlp: Any, hidden: Tensor) -> Tensor:
    def product(gate: Tensor, up: Tensor) -> Tensor:
        down: Tensor = mlp.down_proj(mlp.act_fn(gate) * up)
        return down

    # Backward stops as soon as it has what it needs, which is before the product with down_proj.
    result: Tensor = checkpoint(
        product, mlp.gate_proj(hidden), mlp.up_proj(hidden), use_reentrant=False, preserve_rng_state=False
    )
    return result


def _is_gated(module: Any) -> bool:
    if module not in _FOUND_GATED:
        _FOUND_GATED[module] = all(
            hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj", "act_fn")
        ) and _computes_gated(module)
    return _FOUND_GATED[module]


@torch.no_grad()
def _computes_gated(module: Any) -> bool:
    weight = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    size = getattr(module.gate_proj, "in_features", None)
    # Others that have replaced its forward, or hold its weights elsewhere, are left alone.
    if weight is None or size is None or weight.is_meta or isinstance(weight, DTensor) or "forward" in vars(module):
        return False
    token = torch.linspace(-1, 1, size, dtype=weight.dtype, device=weight.device).expand(1, 1, size)
    try:
        found = module(token)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    return isinstance(found, Tensor) and torch.equal(found, _gated(module, token))


@contextmanager
def fuse_tied_embedding_grad(network: Any) -> Iterator[None]:
    """Let an embedding that is also the head add its gradient to the head's, row by row.

    By themselves the two make a matrix of the vocabulary's size each, and a third for their sum. Other embeddings, and
    those in half precision, whose sums need more care, stay as they are; under autocast, both add up by themselves.

    Args:
        network: a transformers model; called once within, as a whole, without chunks of its logits.
    """
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    if _is_tied(embedding, head):
        # Where the head's backward pass leaves its gradient for the embedding's, which comes last.
        place: list[Tensor] = []
        lookup: Any = _Lookup.apply
        logits: Any = _Head.apply

        def project(hidden: Tensor) -> Tensor:
            # Asked here, because a model that is wrapped for training turns autocast on by itself, around its forward.
            if hidden.dtype is not head.weight.dtype or torch.is_autocast_enabled(hidden.device.type):
                return linear(hidden, head.weight)
            projected: Tensor = logits(hidden, head.weight, place)
            return projected

        forwards = {
            embedding: lambda ids: lookup(embedding.weight, ids, embedding.padding_idx, place),
            head: project,
        }
    with _forwards(forwards):
        yield


def _is_tied(embedding: Any, head: Any) -> bool:
    return (
        (type(embedding), type(head)) == (nn.Embedding, nn.Linear)
        and head.weight is embedding.weight
        and head.bias is None
        and head.weight.requires_grad
        and not isinstance(head.weight, DTensor)
        and head.weight.dtype is torch.float32
        and (embedding.max_norm, embedding.scale_grad_by_freq, embedding.sparse) == (None, False, False)
        and not any("forward" in vars(module) for module in (embedding, head))
    )


class _Head(torch.autograd.Function):
    """Logits (..., V) of hidden states (..., H) by weights (V, H)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, place: list[Tensor]) -> Tensor:
        """One product of matrices."""
        ctx.save_for_backward(hidden, weight)
        ctx.place = place
        return hidden @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Two, where the weights' gradient is asked for."""
        hidden, weight = ctx.saved_tensors
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = gradient.flatten(0, -2).T @ hidden.flatten(0, -2)
            ctx.place[:] = [of_weight]
        return gradient @ weight, of_weight, None


class _Lookup(torch.autograd.Function):
    """Rows (..., H) of weights (V, H); the row of `padding` learns nothing, as in torch.nn.Embedding."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, place: list[Tensor]) -> Tensor:
        """A copy of the rows."""
        ctx.save_for_backward(weight, ids)
        ctx.padding, ctx.place = padding, place
        return weight[ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Added to what the head gave; that one waits for this pass before it is added to the weight's gradient."""
        weight, ids = ctx.saved_tensors
        learns = torch.ones_like(ids, dtype=torch.bool) if ctx.padding is None else ids != ctx.padding
        given = ctx.place.pop() if ctx.place else None
        total = torch.zeros_like(weight) if given is None else given
        total.index_add_(0, ids[learns], gradient[learns])
        return total if given is None else None, None, None, None


@contextmanager
def _forwards(forwards: dict[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """Give modules another forward."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward  # the instance's own, which hid the class's
