"""Reduce the memory of the backward pass for gated MLPs and tied embeddings."""

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

#: Modules that were checked, and whether they compute a gated MLP.
_CHECKED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def recompute_gated_mlp(network: Any) -> Iterator[None]:
    """Let gated MLPs save two tensors of their inner size instead of four; backward recomputes the other two.

    Of down(act(gate) * up), only the elementwise part is recomputed, no matrix product. Applies to modules that compute
    exactly this, which is checked on one token the first time, and not to models that checkpoint whole layers.

    Args:
        network: a transformers model.
    """
    modules = list(network.modules())
    if any(getattr(module, "gradient_checkpointing", False) for module in modules):
        modules = []
    with _replaced_forwards({module: functools.partial(_gated_mlp, module) for module in modules if _is_gated(module)}):
        yield


def _gated_mlp(mlp: Any, hidden: Tensor) -> Tensor:
    def down_of_product(gate: Tensor, up: Tensor) -> Tensor:
        down: Tensor = mlp.down_proj(mlp.act_fn(gate) * up)
        return down

    # Recomputation stops as soon as backward has what it needs, which is before the product with down_proj.
    result: Tensor = checkpoint(
        down_of_product, mlp.gate_proj(hidden), mlp.up_proj(hidden), use_reentrant=False, preserve_rng_state=False
    )
    return result


def _is_gated(module: Any) -> bool:
    if module not in _CHECKED:
        _CHECKED[module] = all(
            hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj", "act_fn")
        ) and _computes_gated(module)
    return _CHECKED[module]


@torch.no_grad()
def _computes_gated(module: Any) -> bool:
    weight = next((weight for weight in module.parameters() if weight.is_floating_point()), None)
    size = getattr(module.gate_proj, "in_features", None)
    # Modules whose forward was replaced already, or whose weights are elsewhere, are skipped.
    if weight is None or size is None or weight.is_meta or isinstance(weight, DTensor) or "forward" in vars(module):
        return False
    token = torch.linspace(-1, 1, size, dtype=weight.dtype, device=weight.device).expand(1, 1, size)
    try:
        result = module(token)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    return isinstance(result, Tensor) and torch.equal(result, _gated_mlp(module, token))


@contextmanager
def fuse_tied_embedding_grad(network: Any) -> Iterator[None]:
    """Let an embedding that is tied to the head add its gradient to the head's, row by row.

    Without this, each of the two allocates a matrix of the vocabulary's size, and their sum a third one. Untied
    embeddings and those in half precision, whose sums need more care, are left as they are, and so is the head under
    autocast.

    Args:
        network: a transformers model; to be called once inside the context, without chunking its logits.
    """
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    forwards: dict[nn.Module, Callable[..., Tensor]] = {}
    if _is_tied(embedding, head):
        # Passes the gradient from the head's backward pass to the embedding's, which runs last.
        head_grad: list[Tensor] = []
        lookup: Any = _Lookup.apply
        logits: Any = _Head.apply

        def project(hidden: Tensor) -> Tensor:
            # Checked here, because a model that is wrapped for training enables autocast around its own forward.
            if hidden.dtype is not head.weight.dtype or torch.is_autocast_enabled(hidden.device.type):
                return linear(hidden, head.weight)
            projected: Tensor = logits(hidden, head.weight, head_grad)
            return projected

        forwards = {
            embedding: lambda ids: lookup(embedding.weight, ids, embedding.padding_idx, head_grad),
            head: project,
        }
    with _replaced_forwards(forwards):
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
    """Logits (..., V) of hidden states (..., H), with weights (V, H)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, head_grad: list[Tensor]) -> Tensor:
        """Compute one matrix product."""
        ctx.save_for_backward(hidden, weight)
        ctx.head_grad = head_grad
        return hidden @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Compute two matrix products, or one if the weights need no gradient."""
        hidden, weight = ctx.saved_tensors
        weight_grad = None
        if ctx.needs_input_grad[1]:
            weight_grad = gradient.flatten(0, -2).T @ hidden.flatten(0, -2)
            ctx.head_grad[:] = [weight_grad]
        return gradient @ weight, weight_grad, None


class _Lookup(torch.autograd.Function):
    """Rows (..., H) of weights (V, H); the row of `padding` gets no gradient, as in torch.nn.Embedding."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None, head_grad: list[Tensor]) -> Tensor:
        """Copy the rows."""
        ctx.save_for_backward(weight, ids)
        ctx.padding, ctx.head_grad = padding, head_grad
        return weight[ids]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, None]:
        """Add to the gradient of the head, which autograd accumulates into the weight only after this pass."""
        weight, ids = ctx.saved_tensors
        learns = torch.ones_like(ids, dtype=torch.bool) if ctx.padding is None else ids != ctx.padding
        head_grad = ctx.head_grad.pop() if ctx.head_grad else None
        total = torch.zeros_like(weight) if head_grad is None else head_grad
        total.index_add_(0, ids[learns], gradient[learns])
        return total if head_grad is None else None, None, None, None


@contextmanager
def _replaced_forwards(forwards: dict[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """Replace the forwards of modules, and restore them afterwards."""
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in forwards:
            del module.forward  # removes the instance attribute, which hides the method of the class
