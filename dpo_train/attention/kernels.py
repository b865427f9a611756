"""Shared-prefix attention on CPU, on CUDA, and in plain PyTorch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import varlen
from transformers import AttentionInterface

from dpo_train.attention.segments import Segments, segment_length
from dpo_train.models import without_adapter

NAME = "dpo_shared_prefix"


#: Keyword arguments that models hand to their attention and that change nothing here.
_WITHOUT_EFFECT = {
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "is_causal",
    "return_dict",
    "layer_idx",
    "position_embeddings",
}


class UnsupportedModelError(Exception):
    """The model asks for something that attention over shared prefixes does not compute."""


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        module: the attention layer.
        query: (1, heads, T, D).
        key: (1, key heads, T, D).
        value: (1, key heads, T, D).
        attention_mask: None, as no mask function is registered.
        segments: of the packed sequence; an argument of the model's forward that its layers pass on.
        scaling: of the scores; None for 1 / sqrt(D).
        dropout: 0.
        sliding_window: keys that a query sees, its own included; by position, not by place in the packed sequence.
        softcap: scores are bent into -softcap to softcap.
        s_aux: (heads,), a logit of each head that takes part in the softmax and has no value (attention sink).
        others: what else the model passes on; only what changes nothing is taken.

    Returns: (1, T, heads, D), and no weights.

    Raises:
        NotServedError: there is a mask, no segments, dropout, or an argument that is not known here.
    """
    if segments is None:
        raise UnsupportedModelError("its layers do not pass arguments on to their attention")
    if attention_mask is not None:
        raise UnsupportedModelError("it makes an attention mask of its own")
    if dropout:
        raise UnsupportedModelError("dropout in its attention is on")
    unknown = [name for name, value in others.items() if value is not None and name not in _WITHOUT_EFFECT]
    if unknown:
        raise UnsupportedModelError(f"its attention takes {', '.join(unknown)}")
    if torch.is_autocast_enabled(query.device.type):  # which knows neither of the kernels below
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    plain = softcap is not None or s_aux is not None or value.shape[-1] != query.shape[-1]
    plain |= query.device.type not in ("cpu", "cuda")
    if query.is_cuda:
        if plain:
            raise UnsupportedModelError(
                "its attention has a soft cap, sinks or narrower values, which varlen_attn has not"
            )
        return _varlen_attention(query, key, value, segments, scaling, sliding_window), None
    if plain:
        return _eager_attention(query, key, value, segments, scaling, sliding_window, softcap, s_aux), None
    attended: Tensor = _CpuFlashAttention.apply(query, key, value, segments, scaling, sliding_window)  # type: ignore[no-untyped-call]
    return attended, None


class _CpuFlashAttention(torch.autograd.Function):
    """Attention of each segment by PyTorch's flash kernel for CPUs; (1, T, heads, D).

    The backward pass is written out: the one that autograd would put together makes a tensor of the whole sequence for
    each slice of it, and keeps the keys of a prompt once for each segment that they were joined to.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: Segments,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """Segment by segment."""
        attended = query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
        sums = []
        for own, queries, keys, values in _pieces(query, key, value, segments, window):
            options = _flash_options(queries, keys, segments, scaling, window)
            out, log_sum = _FLASH(queries, keys, values, **options)
            attended[:, own] = out.transpose(1, 2)
            sums.append(log_sum)
        ctx.save_for_backward(query, key, value, attended, *sums)
        ctx.told = segments, scaling, window
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """What keys and values are for all the segments that see them adds up."""
        query, key, value, attended, *sums = ctx.saved_tensors
        segments, scaling, window = ctx.told
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        log_sums = iter(sums)
        for places, pieces in segments.stretches(window):
            joined = _joined(key, places), _joined(value, places)
            of_joined = torch.zeros_like(joined[0]), torch.zeros_like(joined[1])
            for own, seen in pieces:
                queries, keys, values = query[:, :, own], joined[0][:, :, seen], joined[1][:, :, seen]
                options = _flash_options(queries, keys, segments, scaling, window)
                out_gradient, out = gradient[:, own].transpose(1, 2), attended[:, own].transpose(1, 2)
                of_query[:, :, own], *of_seen = _FLASH_BACKWARD(
                    out_gradient, queries, keys, values, out, next(log_sums), **options
                )
                for total, part in zip(of_joined, of_seen, strict=True):
                    total[:, :, seen] += part
            for total, parts in zip((of_key, of_value), of_joined, strict=True):
                for place, part in zip(places, torch.split(parts, [*map(segment_length, places)], dim=2), strict=True):
                    total[:, :, place] += part
        return of_query, of_key, of_value, None, None, None


_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _pieces(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, window: int | None
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Of each piece of a segment, its places, its queries, and the keys and values that they see."""
    for places, pieces in segments.stretches(window):
        keys, values = _joined(key, places), _joined(value, places)
        for own, seen in pieces:
            yield own, query[:, :, own], keys[:, :, seen], values[:, :, seen]


def _joined(tensor: Tensor, places: list[slice]) -> Tensor:
    """Keys or values of all that a segment sees, by position."""
    parts = [tensor[:, :, place] for place in places]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _flash_options(
    query: Tensor, keys: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> dict[str, Any]:
    length, seen = query.shape[2], keys.shape[2]
    causal = seen == length and (window is None or window >= seen)
    mask = None if causal else segments.mask(length, seen, window, query)
    return {"dropout_p": 0.0, "is_causal": causal, "attn_mask": mask, "scale": scaling}


def _eager_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, for what the kernels have no argument for; (1, T, heads, D of the values)."""
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    attended = []
    for _, queries, keys, values in _pieces(query, key, value, segments, window):
        scores = queries @ keys.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + segments.mask(scores.shape[2], scores.shape[3], window, scores)
        if sinks is not None:
            scores = torch.cat([scores, sinks.reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1).to(scores)], dim=-1)
        weights = scores.softmax(-1, dtype=torch.float32)[..., : keys.shape[2]]
        attended.append((weights.to(values.dtype) @ values).transpose(1, 2))
    return torch.cat(attended, dim=1)


def _varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """All segments in one call of PyTorch's flash attention; (1, T, heads, D)."""
    if query.dtype not in (torch.bfloat16, torch.float16):
        raise UnsupportedModelError(f"varlen_attn computes in half precision, not in {query.dtype}")
    inputs = segments.varlen(query.device)
    keys, values = (tensor[0].transpose(0, 1).index_select(0, inputs.keys) for tensor in (key, value))
    out: Any = varlen.varlen_attn(
        query[0].transpose(0, 1).contiguous(),
        keys,
        values,
        inputs.cumulative_queries,
        inputs.cumulative_keys,
        inputs.most_queries,
        inputs.most_keys,
        scale=scaling,
        # Here a window counts the keys to the left of the query's own; in transformers its own too.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    attended: Tensor = out[None]
    return attended


AttentionInterface.register(NAME, shared_prefix_attention)


@contextmanager
def shared_prefixes(model: nn.Module) -> Iterator[None]:
    """Let a model's layers attend over shared prefixes: forward, and backward where checkpoints are recomputed.

    Outside, the model keeps its own attention, so that it generates and evaluates elsewhere as ever.
    """
    config = without_adapter(model).config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
