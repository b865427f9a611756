"""Which models shared-prefix attention supports."""

import inspect
from typing import Any

from dpo_train.models import active_dropout, router_weight, without_adapter

#: Layer types that shared-prefix attention computes; others keep a state, convolve, or select their keys themselves.
SUPPORTED_LAYERS = {"full_attention", "sliding_attention"}


class UnsupportedModelError(Exception):
    """The model needs something that shared-prefix attention does not compute."""


def unsupported_reason(model: Any) -> str | None:
    """Return why a model cannot share prefixes, as far as its configuration shows; None if nothing prevents it."""
    network = without_adapter(model)
    if not hasattr(network, "config"):
        return "it is not a transformers model"
    config = network.config
    arguments = inspect.signature(network.forward).parameters
    layers = set(getattr(config, "layer_types", None) or ()) - SUPPORTED_LAYERS
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    reasons = {
        "it is an encoder-decoder": getattr(config, "is_encoder_decoder", False),
        "its layers keep a state": getattr(network, "_is_stateful", False),
        f"it has layers of type {', '.join(sorted(layers))}": bool(layers),
        "it takes no position_ids": "position_ids" not in arguments,
        "it computes the logits of every position": "logits_to_keep" not in arguments,
        "its attention cannot be replaced": not getattr(network, "_supports_attention_backend", False),
        "its positions are multimodal": "mrope_section" in rope,
        "its adapter learns prompts": _has_prompt_learning(model),
        "its router loss would count a shared prompt once": bool(router_weight(config)),
        "dropout is on": active_dropout(network),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _has_prompt_learning(model: Any) -> bool:
    adapters = getattr(model, "peft_config", None) or {}
    return any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters.values())
