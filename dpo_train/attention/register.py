"""Shared-prefix attention as an attention implementation of transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from dpo_train.attention.kernels import segment_attention
from dpo_train.attention.segments import Segments
from dpo_train.attention.support import UnsupportedModelError
from dpo_train.models import without_adapter

NAME = "dpo_shared_prefix"

#: Keyword arguments that models pass to their attention and that have no effect on the result here.
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
    """Compute attention, with the signature that transformers calls.

    Args:
        module: the attention layer.
        query: (1, heads, T, D).
        key: (1, key heads, T, D).
        value: (1, key heads, T, D).
        attention_mask: None, because no mask function is registered under this name.
        segments: of the packed sequence; an argument of the model's forward that its layers pass on.
        scaling: of the scores; None for 1 / sqrt(D).
        dropout: 0.
        sliding_window: keys that a query attends to, its own included; by position, not by index.
        softcap: scores are squashed into -softcap to softcap.
        s_aux: (heads,), one more logit per head in the softmax, without a value (attention sink).
        others: further arguments, accepted if they have no effect.

    Returns: (1, T, heads, D), and None instead of weights.

    Raises:
        UnsupportedModelError: there is a mask, dropout, an unknown argument, or no segments.
    """
    if segments is None:
        raise UnsupportedModelError("its layers do not pass arguments on to their attention")
    if attention_mask is not None:
        raise UnsupportedModelError("it makes its own attention mask")
    if dropout:
        raise UnsupportedModelError("dropout in its attention is on")
    unknown = [name for name, value in others.items() if value is not None and name not in _WITHOUT_EFFECT]
    if unknown:
        raise UnsupportedModelError(f"its attention takes {', '.join(unknown)}")
    if torch.is_autocast_enabled(query.device.type):  # autocast does not cover the kernels
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    attended = segment_attention(
        query, key, value, segments, scaling=scaling, window=sliding_window, softcap=softcap, sinks=s_aux
    )
    return attended, None


AttentionInterface.register(NAME, shared_prefix_attention)


@contextmanager
def shared_prefixes(model: nn.Module) -> Iterator[None]:
    """Let the layers of a model use shared-prefix attention.

    Covers the forward pass, and the backward pass where checkpoints are recomputed. Outside, the model keeps its own
    attention for generation and for other code.
    """
    config = without_adapter(model).config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
