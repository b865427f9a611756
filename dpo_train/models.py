"""The model that is trained: loading, its adapter, dropout, its router. Knows no data and no loss."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from dpo_data.errors import InputError


def load_model(model: Any) -> Any:
    """A model; loaded in float32 where it is a name or path."""
    if not isinstance(model, str):
        return model
    try:
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"{model}: the model cannot be loaded: {str(error).splitlines()[0]}") from error


def with_adapter(model: Any, peft_config: Any) -> Any:
    """A model with a new adapter; one that it has already becomes part of the model, and so of its reference."""
    if peft_config is None:
        return model
    from peft import get_peft_model, prepare_model_for_kbit_training

    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, peft_config)


def without_adapter(model: Any) -> Any:
    """The model under the adapter, or the model itself where it has none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def without_dropout(model: Any) -> Any:
    """The model itself, its dropout set to 0: that of Dropout modules, and what attention reads by itself."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def active_dropout(model: nn.Module) -> bool:
    """Whether any dropout of a model drops something in training."""
    return any(_dropout(module) > 0 for module in model.modules())


def _dropout(module: nn.Module) -> float:
    own = [value for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]
    return max([module.p if isinstance(module, nn.Dropout) else 0.0, *own])


def router_weight(config: Any) -> float:
    """Weight of a mixture of experts' router loss in the loss; 0 where the model does not ask for it."""
    asks = getattr(config, "output_router_logits", False)
    return float(getattr(config, "router_aux_loss_coef", 0.0)) if asks else 0.0


def suggested_tokens(model: Any, device: torch.device) -> int:
    """Tokens of a micro-batch that a device computes well and has the memory for.

    A CPU's matrix products are as fast per token at 1,000 tokens as at more, and activations then stay small. On a GPU
    half of what weights, gradients and Adam's moments leave free is taken, at a rough estimate of 16 hidden and 3
    intermediate vectors a layer.
    """
    if device.type != "cuda":
        return 1024
    config = model.config.get_text_config()
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    free, _ = torch.cuda.mem_get_info(device)
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    each = config.num_hidden_layers * (16 * hidden + 3 * inner) * 2 + 4 * config.vocab_size
    return int(min(max((free - 3 * weights) / 2 / each, 2048), 65536))
