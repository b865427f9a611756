"""Attention over the segments of a packed sequence: flash attention on CPU and CUDA, and plain PyTorch."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import varlen

from dpo_train.attention.segments import Segments, range_length
from dpo_train.attention.support import UnsupportedModelError

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def segment_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segments: Segments,
    *,
    scaling: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Compute attention with the fastest kernel that has the arguments.

    Args:
        query: (1, heads, T, D).
        key: (1, key heads, T, D).
        value: (1, key heads, T, D of the values).
        segments: of the packed sequence.
        scaling: of the scores; None for 1 / sqrt(D).
        window: keys that a query attends to, its own included, by position; None for no limit.
        softcap: scores are squashed into -softcap to softcap.
        sinks: (heads,), one more logit per head in the softmax, without a value.

    Returns: (1, T, heads, D of the values).

    Raises:
        UnsupportedModelError: CUDA has no kernel for the arguments.
    """
    needs_eager = softcap is not None or sinks is not None or value.shape[-1] != query.shape[-1]
    if query.is_cuda:
        if needs_eager:
            raise UnsupportedModelError(
                "varlen_attn does not support the soft cap, sinks or value size of its attention"
            )
        return _varlen_attention(query, key, value, segments, scaling, window)
    if needs_eager or query.device.type != "cpu":
        return _eager_attention(query, key, value, segments, scaling, window, softcap, sinks)
    attended: Tensor = _CpuFlashAttention.apply(query, key, value, segments, scaling, window)  # type: ignore[no-untyped-call]
    return attended


class _CpuFlashAttention(torch.autograd.Function):
    """Attention of each segment by PyTorch's flash kernel for CPUs; (1, T, heads, D).

    The backward pass is written out. The one that autograd would build allocates a tensor of the whole sequence for
    each slice of it, and keeps the keys of a shared prefix once per segment that attends to them.
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
        """Compute attention block by block."""
        attended = query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
        log_sums = []
        for own, queries, keys, values in _blocks(query, key, value, segments, window):
            options = _flash_options(queries, keys, segments, scaling, window)
            out, log_sum = _FLASH(queries, keys, values, **options)
            attended[:, own] = out.transpose(1, 2)
            log_sums.append(log_sum)
        ctx.save_for_backward(query, key, value, attended, *log_sums)
        ctx.options = segments, scaling, window
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Add up the gradients of keys and values over all segments that attend to them."""
        query, key, value, attended, *saved = ctx.saved_tensors
        segments, scaling, window = ctx.options
        query_grad, key_grad, value_grad = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        log_sums = iter(saved)
        for ranges, blocks in segments.blocks(window):
            joined = _gather_keys(key, ranges), _gather_keys(value, ranges)
            joined_grads = torch.zeros_like(joined[0]), torch.zeros_like(joined[1])
            for own, seen in blocks:
                queries, keys, values = query[:, :, own], joined[0][:, :, seen], joined[1][:, :, seen]
                options = _flash_options(queries, keys, segments, scaling, window)
                out_grad, out = gradient[:, own].transpose(1, 2), attended[:, own].transpose(1, 2)
                query_grad[:, :, own], *seen_grads = _FLASH_BACKWARD(
                    out_grad, queries, keys, values, out, next(log_sums), **options
                )
                for total, part in zip(joined_grads, seen_grads, strict=True):
                    total[:, :, seen] += part
            for total, joined_grad in zip((key_grad, value_grad), joined_grads, strict=True):
                parts = torch.split(joined_grad, [*map(range_length, ranges)], dim=2)
                for range_, part in zip(ranges, parts, strict=True):
                    total[:, :, range_] += part
        return query_grad, key_grad, value_grad, None, None, None


def _blocks(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, window: int | None
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Yield for each block its range, its queries, and the keys and values that they attend to."""
    for ranges, blocks in segments.blocks(window):
        keys, values = _gather_keys(key, ranges), _gather_keys(value, ranges)
        for own, seen in blocks:
            yield own, query[:, :, own], keys[:, :, seen], values[:, :, seen]


def _gather_keys(tensor: Tensor, ranges: list[slice]) -> Tensor:
    """Return the keys or values in all of these ranges, in their order."""
    parts = [tensor[:, :, range_] for range_ in ranges]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _flash_options(
    query: Tensor, keys: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> dict[str, Any]:
    length, key_count = query.shape[2], keys.shape[2]
    causal = key_count == length and (window is None or window >= key_count)
    mask = None if causal else segments.mask(length, key_count, window, query)
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
    """Compute attention in plain PyTorch, for arguments that the kernels lack; (1, T, heads, D of the values)."""
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    attended = []
    for _, queries, keys, values in _blocks(query, key, value, segments, window):
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
    """Compute attention of all segments in one call of PyTorch's flash attention for CUDA; (1, T, heads, D)."""
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
        inputs.max_queries,
        inputs.max_keys,
        scale=scaling,
        # Here a window counts the keys to the left of the query's own; in transformers it includes its own.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    attended: Tensor = out[None]
    return attended
