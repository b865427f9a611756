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
