"""Attention over packed sequences that share what they begin with, and which models it can serve.

Sequences that begin alike are packed as a tree: each stretch of tokens once, however many sequences run through it. A
stretch sees itself and those that lead to it, and its position ids go on where they ended, so that each sequence is
computed as if it stood alone. Nothing is padded, and neither a prompt nor what prompts begin with is computed twice.

One function is registered with transformers' AttentionInterface, and none for masks: models then build none.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.attention import varlen
from transformers import AttentionInterface

from dpo_train.models import active_dropout, router_weight, without_adapter

NAME = "dpo_shared_prefix"

#: Layer types that this attention computes; others keep a state, convolve, or pick their keys in a way of their own.
SERVED_LAYERS = {"full_attention", "sliding_attention"}
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

#: Tokens of a piece of a long segment, and the length from which the kernel's own blocks are as good (on two cores).
_PIECE, _LEAST_UNCUT = 96, 1024

#: Where the keys of a segment lie, and its pieces: their places, and which of those keys they see.
Stretch = tuple[list[slice], list[tuple[slice, slice]]]


class NotServedError(Exception):
    """The model asks for something that attention over shared prefixes does not compute."""


@dataclass(frozen=True)
class Segments:
    """Which stretch of a packed sequence sees what.

    Attributes:
        table: (S, 3) int64, in the order of the sequence and covering it without a gap: tokens of the segment, the
            segment that it branches off or -1, and how many tokens of that one it comes behind. It sees these, what
            they see, and itself.
    """

    table: np.ndarray
    _cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def keys(self) -> list[list[slice]]:
        """Of each segment, the places of all that it sees, by position; the last are its own."""
        if "keys" not in self._cache:
            starts = np.cumsum(self.table[:, 0]) - self.table[:, 0]
            keys: list[list[slice]] = []
            for start, (length, parent, behind) in zip(starts.tolist(), self.table.tolist(), strict=True):
                own = slice(start, start + length)
                if parent < 0:
                    keys.append([own])
                else:
                    first = keys[parent][-1].start
                    keys.append([*keys[parent][:-1], slice(first, first + behind), own])
            self._cache["keys"] = keys
        found: list[list[slice]] = self._cache["keys"]
        return found

    def stretches(self, window: int | None) -> list[Stretch]:
        """What is computed together.

        A segment is cut into pieces that see those before them. The kernel computes much of what a causal mask hides,
        and so there is less of that.

        Args:
            window: keys that a query sees, its own included; None for all before it.
        """
        if window not in self._cache:
            self._cache[window] = [(places, _cut(places, window)) for places in self.keys()]
        stretches: list[Stretch] = self._cache[window]
        return stretches

    def mask(self, queries: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """(queries, keys), 0 where a query sees a key and -inf where not; the last query sees the last key."""
        known = (queries, window, like.dtype, like.device)
        if known not in self._cache:
            # What is seen only depends on how far before the last key it is: fewer keys are the last of the most.
            most = max(sum(map(_length, places)) for places in self.keys())
            places = torch.arange(most, device=like.device)
            behind = places[most - queries :, None] - places
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            self._cache[known] = torch.zeros_like(hidden, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
        mask: Tensor = self._cache[known]
        return mask[:, mask.shape[1] - keys :]

    def varlen(self, device: torch.device) -> "VarlenInputs":
        """The same for `torch.nn.attention.varlen`, on a device."""
        if device not in self._cache:
            self._cache[device] = VarlenInputs.of(self, device)
        inputs: VarlenInputs = self._cache[device]
        return inputs


def _length(place: slice) -> int:
    length: int = place.stop - place.start
    return length


def _cut(places: list[slice], window: int | None) -> list[tuple[slice, slice]]:
    """Pieces of the last of these places, and which of the keys at all of them each sees."""
    own = places[-1]
    before, length = sum(map(_length, places[:-1])), _length(own)
    most = _PIECE if before or length < _LEAST_UNCUT else length
    pieces = []
    for done in range(0, length, most):
        until = min(done + most, length)
        # With a window, the first keys are out of everybody's sight.
        first = 0 if window is None else max(0, before + done - window + 1)
        pieces.append((slice(own.start + done, own.start + until), slice(first, before + until)))
    return pieces


@dataclass(frozen=True)
class VarlenInputs:
    """Segments as `varlen_attn` takes them.

    Attributes:
        keys: (K,) int64, the token behind each key: what a segment branches off is repeated before it.
        cumulative_queries: (S + 1,) int32, where each segment's queries begin and end.
        cumulative_keys: (S + 1,) int32, the same of the keys.
        most_queries: of any segment.
        most_keys: of any segment.
    """

    keys: Tensor
    cumulative_queries: Tensor
    cumulative_keys: Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, segments: Segments, device: torch.device) -> "VarlenInputs":
        """From the segments of a packed sequence."""
        places = segments.keys()
        lengths, seen = segments.table[:, 0], np.array([sum(map(_length, each)) for each in places])
        queries, keys = (np.cumsum([0, *counts], dtype=np.int32) for counts in (lengths, seen))
        return cls(
            keys=torch.from_numpy(np.concatenate([np.r_[place] for each in places for place in each])).to(device),
            cumulative_queries=torch.from_numpy(queries).to(device),
            cumulative_keys=torch.from_numpy(keys).to(device),
            most_queries=int(lengths.max()),
            most_keys=int(seen.max()),
        )


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
        raise NotServedError("its layers do not pass arguments on to their attention")
    if attention_mask is not None:
        raise NotServedError("it makes an attention mask of its own")
    if dropout:
        raise NotServedError("dropout in its attention is on")
    unknown = [name for name, value in others.items() if value is not None and name not in _WITHOUT_EFFECT]
    if unknown:
        raise NotServedError(f"its attention takes {', '.join(unknown)}")
    if torch.is_autocast_enabled(query.device.type):  # which knows neither of the kernels below
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    plain = softcap is not None or s_aux is not None or value.shape[-1] != query.shape[-1]
    plain |= query.device.type not in ("cpu", "cuda")
    if query.is_cuda:
        if plain:
            raise NotServedError("its attention has a soft cap, sinks or narrower values, which varlen_attn has not")
        return _varlen(query, key, value, segments, scaling, sliding_window), None
    if plain:
        return _plain(query, key, value, segments, scaling, sliding_window, softcap, s_aux), None
    attended: Tensor = _Flash.apply(query, key, value, segments, scaling, sliding_window)  # type: ignore[no-untyped-call]
    return attended, None


class _Flash(torch.autograd.Function):
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
                for place, part in zip(places, torch.split(parts, [*map(_length, places)], dim=2), strict=True):
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


def _plain(
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


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """All segments in one call of PyTorch's flash attention; (1, T, heads, D)."""
    if query.dtype not in (torch.bfloat16, torch.float16):
        raise NotServedError(f"varlen_attn computes in half precision, not in {query.dtype}")
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


def why_not_served(model: Any) -> str | None:
    """Why a model cannot share prefixes, as far as its configuration tells; None where nothing speaks against it."""
    network = without_adapter(model)
    if not hasattr(network, "config"):
        return "it is no transformers model"
    config = network.config
    arguments = inspect.signature(network.forward).parameters
    layers = set(getattr(config, "layer_types", None) or ()) - SERVED_LAYERS
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    reasons = {
        "it is an encoder-decoder": getattr(config, "is_encoder_decoder", False),
        "its layers keep a state": getattr(network, "_is_stateful", False),
        f"it has layers of type {', '.join(sorted(layers))}": bool(layers),
        "it takes no position_ids": "position_ids" not in arguments,
        "it computes the logits of every position": "logits_to_keep" not in arguments,
        "its attention cannot be replaced": not getattr(network, "_supports_attention_backend", False),
        "its positions are multimodal": "mrope_section" in rope,
        "its adapter learns prompts": _learns_prompts(model),
        "its router loss would count a shared prompt once": bool(router_weight(config)),
        "dropout is on": active_dropout(network),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _learns_prompts(model: Any) -> bool:
    adapters = getattr(model, "peft_config", None) or {}
    return any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values())
