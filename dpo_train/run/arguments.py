"""The objects of peft and transformers that the options of a run stand for: adapter, quantization, arguments."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from dpo_data.errors import UsageError, argument, first_line, require_packages
from dpo_train.adapters import MERGED_BASE, adapter_config
from dpo_train.config import DPOConfig
from dpo_train.diagnosis import ADAPTER_LEARNING_RATE
from dpo_train.run.options import LORA_OPTIONS, RunOptions
from dpo_train.trainer.preflight import check_trackers

#: Pairs in one forward pass, unless the user decides: the default of TrainingArguments.
_MICRO_BATCH = 8
#: peft's name for all linear layers but the head.
ALL_LINEAR = "all-linear"


def check_options(options: RunOptions) -> None:
    """Raise UsageError if options contradict each other, need a package that is missing, or would replace a run."""
    output = options.output
    if output.exists() and not output.is_dir():
        raise UsageError("is a file; name a folder.", "output", output)
    data = [("data", folder) for folder in options.folders]
    for name, folder in (("model", options.model), ("reference", options.reference), *data):
        if folder is not None and _is_replaced(Path(folder), options):
            raise UsageError(
                f"the run would overwrite it: {argument('output', output)} is the same folder.\n"
                f"  Name another one: {argument('output', 'FOLDER')}.",
                name,
                folder,
            )
    if options.resume and options.overwrite:
        raise UsageError(f"{argument('resume')} and {argument('overwrite')} exclude each other; pass only one.")
    if (output / "metrics.jsonl").exists() and not (options.resume or options.overwrite):
        raise UsageError(
            f"{output}: holds a run already.\n"
            f"  Resume it: {argument('resume', True)}. Replace it: {argument('overwrite', True)}. "
            f"Or name another folder: {argument('output', 'FOLDER')}."
        )
    continues = options.lora_r is None and trains_adapter(options)
    adapters = [name for name in (options.model, options.reference) if name and adapter_config(name) is not None]
    if adapters:
        require_packages("an adapter", "peft")
    if options.lora_r is not None:
        require_packages(argument("lora_r"), "peft")
    elif given := [name for name in LORA_OPTIONS if getattr(options, name)]:
        raise UsageError(f"{argument(given[0])} is an option of a new adapter; pass {argument('lora_r')} too.")
    elif continues:
        pass
    elif options.merge_adapter:
        raise UsageError(f"{argument('merge_adapter')} merges a LoRA adapter; pass {argument('lora_r')} too.")
    elif options.load_in_4bit:
        raise UsageError(
            f"{argument('load_in_4bit')} freezes the weights, which leaves nothing to train; pass {argument('lora_r')} "
            "too."
        )
    if not 0 <= (options.lora_dropout or 0) < 1:
        raise UsageError("must be in [0, 1).", "lora_dropout", options.lora_dropout)
    if options.load_in_4bit:
        if options.merge_adapter:
            raise UsageError(
                f"{argument('merge_adapter')} cannot merge into weights of 4 bits; leave it out and merge afterwards."
            )
        require_packages(argument("load_in_4bit"), "bitsandbytes")
    if options.early_stopping is not None and "eval_steps" not in options.training:
        raise UsageError(
            f"{argument('early_stopping')} counts evaluations; set their interval: {argument('eval_steps')}."
        )
    if options.training.get("fp16") and not torch.cuda.is_available():
        raise UsageError(
            f"{argument('fp16')} has no effect without a GPU; pass {argument('bf16')} instead, or neither."
        )
    check_trackers(options.training.get("report_to"))


def trains_adapter(options: RunOptions) -> bool:
    """Return True if a run trains an adapter, a new one or that of the model."""
    return options.lora_r is not None or (options.model is not None and adapter_config(options.model) is not None)


def _is_replaced(folder: Path, options: RunOptions) -> bool:
    """Return True if a run writes into a folder that it reads, or deletes it with an earlier run."""
    folder, output = folder.expanduser().resolve(), options.output.resolve()
    if not folder.exists() or not folder.is_relative_to(output):
        return False
    parts = folder.relative_to(output).parts
    return not parts or (options.overwrite and (parts[0].startswith("checkpoint-") or parts[0] == MERGED_BASE))


def lora_config(options: RunOptions) -> Any:
    """Return the configuration of a LoRA adapter, or None without `lora_r`."""
    if options.lora_r is None:
        return None
    from peft import LoraConfig

    modules = options.lora_target_modules or [ALL_LINEAR]
    return LoraConfig(
        r=options.lora_r,
        # As the LoRA paper's successors settled on; Hu et al. 2021, arXiv:2106.09685, only fix the ratio.
        lora_alpha=options.lora_alpha or 2 * options.lora_r,
        lora_dropout=options.lora_dropout or 0.0,
        target_modules=ALL_LINEAR if modules == [ALL_LINEAR] else modules,
        use_rslora=options.lora_rslora,
        use_dora=options.lora_dora,
        modules_to_save=options.lora_modules_to_save,
        trainable_token_indices=options.lora_token_indices,
        task_type="CAUSAL_LM",
    )


def loading_options(options: RunOptions) -> dict[str, Any]:
    """Return the options of `from_pretrained`: precision, and NF4 with double quantization for weights of 4 bits.

    Source: Dettmers et al. 2023, arXiv:2305.14314, section 3.
    """
    loading = {
        "dtype": options.dtype,
        "trust_remote_code": options.trust_remote_code,
        **_from_json(options, "model_init_kwargs"),
    }
    if not options.load_in_4bit:
        return loading
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if options.dtype in ("float32", "auto") else getattr(torch, options.dtype),
    )
    return {**loading, "quantization_config": config}


def _from_json(options: RunOptions, name: str) -> dict[str, Any]:
    """Return the values of an option that the command line has as JSON; empty without it."""
    given = options.training.get(name) or {}
    try:
        given = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise UsageError(f"is not JSON: {error}.", name, given) from error
    if not isinstance(given, dict):
        raise UsageError("must map names to values.", name, given)
    return given


def training_arguments(options: RunOptions) -> DPOConfig:
    """Return the training arguments, with the micro-batches that make up the pairs of an optimizer step.

    Raises: UsageError: transformers refuses an option, or the batch size cannot be split.
    """
    given = {name: value for name, value in options.training.items() if name != "model_init_kwargs"}
    added = {name: given.pop(name) for name in [*given] if name not in DPOConfig.__dataclass_fields__}
    if added:  # options of losses that a program added to LOSSES
        given["loss_options"] = _from_json(options, "loss_options") | added
    if given.get("bf16") and not torch.cuda.is_available():
        given.setdefault("use_cpu", True)
    if "eval_steps" in given:
        given.setdefault("eval_strategy", "steps")
    if given.get("load_best_model_at_end") and given.get("eval_strategy", "no") == "no":
        reason = f"needs evaluations during training.\n  Pass {argument('eval_steps')} with their interval."
        raise UsageError(reason, "load_best_model_at_end", True)
    if options.early_stopping is not None:
        given |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_strategy": "best"}
    given |= _micro_batches(options.batch_size, int(os.environ.get("WORLD_SIZE", "1")), given)
    if trains_adapter(options):
        given.setdefault("learning_rate", ADAPTER_LEARNING_RATE)
    home = options.cache_dir or options.folders[0]
    if given.get("sync_ref_model"):
        pass  # a reference that changes is not kept
    elif os.access(home, os.W_OK) or not home.exists():  # else, with a read-only folder, it is kept in memory alone
        given.setdefault("reference_cache", str(home / "reference"))
    try:
        return DPOConfig(**{"disable_tqdm": not sys.stderr.isatty()} | given, output_dir=str(options.output))
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"transformers refuses the training options: {first_line(error)}.") from error


def _micro_batches(batch_size: int, ranks: int, given: Mapping[str, Any]) -> dict[str, int]:
    """Return micro-batch size and accumulation steps whose product with the ranks is the batch size."""
    if batch_size < 1 or batch_size % ranks:
        raise UsageError(f"cannot be split evenly over {ranks} processes.", "batch_size", batch_size)
    pairs = batch_size // ranks
    micro_batch, accumulated = given.get("per_device_train_batch_size"), given.get("gradient_accumulation_steps")
    if micro_batch is None and accumulated is None:
        micro_batch = next(size for size in range(min(pairs, _MICRO_BATCH), 0, -1) if pairs % size == 0)
    if micro_batch is None:
        micro_batch = max(pairs // max(accumulated or 1, 1), 1)
    if accumulated is None:
        accumulated = max(pairs // max(micro_batch, 1), 1)
    if micro_batch * accumulated != pairs:
        raise UsageError(
            f"over {ranks} processes is {pairs} pairs each, which is not {accumulated} micro-batches of "
            f"{micro_batch}.\n  Pass {argument('batch_size')} with only one of "
            f"{argument('per_device_train_batch_size')} and {argument('gradient_accumulation_steps')}.",
            "batch_size",
            batch_size,
        )
    return {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulated}
