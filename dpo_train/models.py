"""Load the model to train, and set what is computed with it: dropout, mode, router loss."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from dpo_data.errors import InputError, UsageError, argument
from dpo_train.adapters import adapter_base, load_with_adapter


def load_model(model: Any, options: Mapping[str, Any]) -> Any:
    """Return a model; a name or path, of a model or of an adapter, is loaded, in float32 without another dtype.

    Args:
        model: the model, or its name or path.
        options: arguments of `from_pretrained`.

    Raises:
        InputError: it cannot be loaded.
        UsageError: it needs Python code of its own, which `trust_remote_code` does not allow.
    """
    if not isinstance(model, str):
        return model
    try:
        return load_with_adapter(
            model, lambda name: AutoModelForCausalLM.from_pretrained(name, **{"dtype": torch.float32, **options})
        )
    except (OSError, ValueError, TypeError) as error:
        if "trust_remote_code" in str(error) and not options.get("trust_remote_code"):
            raise custom_code_error(model) from error
        raise InputError(f"{model}: the model cannot be loaded: {str(error).splitlines()[0]}") from error


def require_causal(model: Any, role: str) -> Any:
    """Return a model that predicts the next token of a text.

    Args:
        model: a model.
        role: what it is for, in the message.

    Raises:
        UsageError: it is another kind of model.
    """
    network = without_adapter(model)
    kind = f"{role}: {type(network).__name__} "
    if not isinstance(network, PreTrainedModel):
        raise UsageError(
            f"{kind}is not a model of transformers.\n  Load one with AutoModelForCausalLM, or pass its name or path."
        )
    if getattr(network.config, "is_encoder_decoder", False):
        raise UsageError(f"{kind}is an encoder-decoder.\n  DPOTrainer trains causal language models (decoders).")
    if not network.can_generate():
        raise UsageError(f"{kind}has no head that predicts tokens.\n  Load the same weights with AutoModelForCausalLM.")
    return model


def share_weights(model: Any, other: Any) -> bool:
    """Return True if two models have parameters in common, as an adapter and the model under it do."""
    if not isinstance(model, nn.Module) or not isinstance(other, nn.Module):
        return False
    return not {*map(id, model.parameters())}.isdisjoint(map(id, other.parameters()))


def custom_code_error(model: str) -> UsageError:
    """Return the error for a model that needs Python code of its own."""
    return UsageError(
        f"{model}: the model contains custom code, which would run on this machine.\n"
        f"  Read it, and allow it if you trust it: {argument('trust_remote_code', True)}."
    )


def tokenizer_of(model: Any, options: Mapping[str, Any]) -> Any:
    """Return the tokenizer that was saved with a model or its base model; None if none is found.

    Args:
        model: the model, which knows its name, or its name or path.
        options: arguments of `from_pretrained`, of which trust_remote_code and revision are used.
    """
    name = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", "")
    used = {option: options[option] for option in ("trust_remote_code", "revision") if option in options}
    for folder in filter(None, (name, adapter_base(name) if name else None)):
        try:
            return AutoTokenizer.from_pretrained(folder, **used)
        except (OSError, ValueError, TypeError, KeyError):  # no tokenizer there
            continue
    return None


def without_adapter(model: Any) -> Any:
    """Return the model under the adapter, or the model itself if it has none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def vocabulary_size(network: Any) -> int:
    """Return the number of tokens that a model has embeddings for; adapters wrap the embedding."""
    embedding = network.get_input_embeddings()
    found = next((module for module in embedding.modules() if isinstance(module, nn.Embedding)), embedding)
    return int(found.num_embeddings)


def without_dropout(model: Any, *, keep_adapter: bool = False) -> Any:
    """Set a model's dropout to 0, in Dropout modules and in attributes of attention layers, and return the model.

    Args:
        model: the model.
        keep_adapter: leave the dropout of its adapter as it is.
    """
    for path, module in model.named_modules():
        if keep_adapter and "lora_dropout" in path.split("."):
            continue
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


def set_router_weight(config: Any, weight: float | None) -> float:
    """Return the weight of the router loss, after setting it; None leaves it as the configuration says.

    Raises: UsageError: the model has no router loss to output.
    """
    if weight is not None:
        if not hasattr(config, "output_router_logits"):
            raise UsageError("the model outputs no router loss.", "router_aux_loss_coef", weight)
        if weight < 0:
            raise UsageError("must not be negative.", "router_aux_loss_coef", weight)
        config.output_router_logits, config.router_aux_loss_coef = weight > 0, weight
    return router_weight(config)
