"""Load and adapt the model to train: adapter, dropout, router loss, replaced weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from dpo_data.errors import InputError


def load_model(model: Any) -> Any:
    """Return a model; a name or path is loaded in float32."""
    if not isinstance(model, str):
        return model
    try:
        return AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError(f"{model}: the model cannot be loaded: {str(error).splitlines()[0]}") from error


def with_adapter(model: Any, peft_config: Any) -> Any:
    """Return a model with a new adapter; an adapter that it has already is merged, and so is part of the reference."""
    if peft_config is None:
        return model
    from peft import get_peft_model, prepare_model_for_kbit_training

    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    return get_peft_model(model, peft_config)


def without_adapter(model: Any) -> Any:
    """Return the model under the adapter, or the model itself if it has none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def without_dropout(model: Any) -> Any:
    """Set a model's dropout to 0, in Dropout modules and in attributes of attention layers, and return the model."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def active_dropout(model: nn.Module) -> bool:
    """Return True if a model has dropout in training mode."""
    return any(_dropout(module) > 0 for module in model.modules())


def _dropout(module: nn.Module) -> float:
    own = [value for name, value in vars(module).items() if "dropout" in name and isinstance(value, float)]
    return max([module.p if isinstance(module, nn.Dropout) else 0.0, *own])


def frozen(model: nn.Module) -> nn.Module:
    """Return the model itself, in evaluation mode and without gradients from now on."""
    return model.eval().requires_grad_(False)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and back in its own mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def router_weight(config: Any) -> float:
    """Return the weight of a mixture of experts' router loss; 0 for models that do not output one."""
    enabled = getattr(config, "output_router_logits", False)
    return float(getattr(config, "router_aux_loss_coef", 0.0)) if enabled else 0.0


class FunctionalModel(nn.Module):
    """A model that computes with other values for some of its parameters.

    Args:
        model: the model, whose own parameters stay as they are.
        weights: the other values, by parameter name.
    """

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self._model = [model]  # in a list, so that its parameters are not registered here
        self._weights = weights

    def get_base_model(self) -> Any:
        """Return the model under the adapter, with its own weights."""
        return without_adapter(self._model[0])

    def forward(self, **inputs: Any) -> Any:
        """Run the model's forward pass with these weights."""
        return torch.func.functional_call(self._model[0], self._weights, kwargs=inputs)
