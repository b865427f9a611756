"""Adapters: load one with its base model, continue or merge it, add a new one, and save it with what it needs."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.utils import find_adapter_config_file, logging

from dpo_data.errors import InputError, UsageError, first_line, reading

logger = logging.get_logger(__name__)

#: Folder, next to a saved adapter, of the base model that another adapter was merged into.
MERGED_BASE = "base"


def adapter_config(model: str) -> dict[str, Any] | None:
    """Return the configuration of an adapter, by its folder or name on the Hub; None for a model that is none.

    Raises: InputError: the configuration cannot be read, or names no base model.
    """
    folder = Path(model).expanduser()
    try:
        file = find_adapter_config_file(str(folder) if folder.is_dir() else model)
    except (OSError, ValueError):  # there is no such model, which those who load it report
        return None
    if file is None:
        return None
    with reading(file):
        config: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    if not config.get("base_model_name_or_path"):
        raise InputError(
            f"{file}: names no base model.\n  Add it as base_model_name_or_path, or merge the adapter into its model."
        )
    return config


def adapter_base(model: str) -> str | None:
    """Return the base model of an adapter, a folder or a name on the Hub; None for a model that is no adapter."""
    config = adapter_config(model)
    if config is None:
        return None
    base, folder = str(config["base_model_name_or_path"]), Path(model).expanduser()
    moved = (folder / MERGED_BASE, folder.parent / MERGED_BASE) if Path(base).name == MERGED_BASE else ()
    if Path(base).is_dir():
        return base
    return next((str(path) for path in moved if path.is_dir()), base)


def load_with_adapter(model: str, load: Callable[[str], Any]) -> Any:
    """Return what `load` returns for a model; for an adapter, its base model with the adapter, ready to be trained."""
    base = adapter_base(model)
    if base is None:
        return load(model)
    from peft import PeftModel

    network = load(base)
    try:
        policy = PeftModel.from_pretrained(network, str(Path(model).expanduser()), is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise InputError(f"{model}: the adapter does not fit its base model {base}: {error}") from error
    policy.adapter_names = f"{model}", base
    return policy


def with_adapter(model: Any, peft_config: Any) -> Any:
    """Return the policy of a run: with a new adapter, or with the one that it has already, which is continued.

    What becomes of an adapter that the model has is logged.

    Args:
        model: a model with or without an adapter, which peft or transformers loaded.
        peft_config: of the new adapter, as an object of peft or a dict; None for none. An adapter that the model has
            already is merged, and so is part of the reference.

    Raises: UsageError: an adapter would have to be merged into quantized weights, or the new one does not fit.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        model = _as_peft_model(model)
    adapter, base = getattr(model, "adapter_names", ("the adapter of the model", "its base model"))
    if peft_config is None:
        if hasattr(model, "merge_and_unload"):
            logger.warning(f"adapter    {adapter} is continued, on {base}")
        return _continued(model)
    from peft import LoraConfig, get_peft_config, get_peft_model, prepare_model_for_kbit_training

    if isinstance(peft_config, Mapping):
        make = get_peft_config if "peft_type" in peft_config else lambda settings: LoraConfig(**settings)
        try:
            peft_config = make(dict(peft_config))
        except (TypeError, ValueError, KeyError) as error:
            raise UsageError(f"is refused by peft: {first_line(error)}.", "peft_config", dict(peft_config)) from error
    merged: dict[str, Tensor] | None = None
    if hasattr(model, "merge_and_unload"):
        if getattr(model, "is_quantized", False):
            raise UsageError(
                "an adapter cannot be merged into quantized weights without loss.\n"
                "  Continue it (without peft_config and --lora-r), or merge it first and quantize the result."
            )
        rank = f" of rank {peft_config.r}" if getattr(peft_config, "r", None) else ""
        logger.warning(f"adapter    {adapter} is merged into {base}; a new adapter{rank} is trained on the result")
        model = model.merge_and_unload()
        if hasattr(model, "peft_config"):
            del model.peft_config  # peft warns of a second adapter otherwise
        merged = dict(model.named_parameters(remove_duplicate=False))
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        policy = get_peft_model(model, peft_config)
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError, IndexError) as error:
        raise UsageError(f"the new adapter does not fit the model: {first_line(error)}.") from error
    if merged is not None:
        policy.merged_base = merged  # peft renames them inside the policy, and the base on disk has other values
    return policy


def _as_peft_model(model: Any) -> Any:
    """Return a model whose adapter transformers loaded as a model of peft, with the same adapter."""
    from peft import PeftModelForCausalLM, set_peft_model_state_dict

    (name,) = model.active_adapters()
    prefix = "base_model.model."  # which transformers leaves out
    state = {prefix + key: value.clone() for key, value in model.get_adapter_state_dict(name).items()}
    config = model.peft_config[name]
    del model.peft_config  # peft warns of a second adapter otherwise
    policy = PeftModelForCausalLM(model, config, adapter_name=name)
    set_peft_model_state_dict(policy, state, adapter_name=name)
    model._hf_peft_config_loaded = False
    # Transformers would rename the weights of the merged model when it saves them, as it did those of the adapter.
    model._weight_conversions = get_model_conversion_mapping(model)
    return policy


def _continued(model: Any) -> Any:
    """Return a model, with its adapter ready to be trained if it was loaded for inference."""
    if not hasattr(model, "merge_and_unload"):
        return model
    before = {name for name, weight in model.named_parameters() if weight.requires_grad}
    model.requires_grad_(False)
    model.set_adapter(model.active_adapter)
    adapter = {name for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in model.named_parameters():
        # What the user trains besides the adapter stays trained, but not the whole model of an adapter for inference.
        weight.requires_grad_(name in (before if before & adapter else adapter))
    return model


def save_merged_base(policy: Any, folder: Path) -> None:
    """Save the base model that an adapter was merged into, and make the new adapter name it; else do nothing."""
    merged = getattr(policy, "merged_base", None)
    if merged is None:
        return
    network = policy.get_base_model()
    network.save_pretrained(folder, state_dict={name: weight.detach() for name, weight in merged.items()})
    for config in policy.peft_config.values():
        config.base_model_name_or_path = str(folder)
    policy.merged_base = None  # saved once
