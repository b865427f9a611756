"""Options of a run, and the training arguments made from them."""

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from dpo_data.errors import UsageError
from dpo_train.config import DPOConfig

#: Pairs in one forward pass, where the user does not say: what TrainingArguments has too.
_MICRO_BATCH = 8


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for.

    Args:
        data: the prepared folder.
        model: a model's path or hub id.
        output: folder of the run; None only for a dry run.
        reference: path or hub id of the reference; None for the model before training.
        batch_size: pairs per optimizer step, over all ranks and micro-batches; None: as `training` says.
        tokens: name of a token cache.
        truncation: truncation options given, by name.
        cache_dir: where token caches are kept.
        dtype: of the weights: float32, bfloat16, float16, or auto for that of the file.
        lora_r: rank of a new LoRA adapter; None to train all weights.
        load_in_4bit: hold the frozen weights under the adapter in four bits (QLoRA).
        merge_adapter: save the model with its adapter merged in.
        early_stopping: evaluations without a lower loss after which to stop; None never to.
        generate_samples: test prompts to write to before and after.
        eval_only: evaluate, without training.
        resume: go on from the newest checkpoint of the output folder.
        overwrite: replace what the output folder holds of an earlier run.
        training: options of `DPOConfig` given, by field name.
    """

    data: Path
    model: str
    output: Path
    reference: str | None = None
    batch_size: int | None = None
    tokens: str | None = None
    truncation: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None
    dtype: str = "float32"
    lora_r: int | None = None
    load_in_4bit: bool = False
    merge_adapter: bool = False
    early_stopping: int | None = None
    generate_samples: int = 0
    eval_only: bool = False
    resume: bool = False
    overwrite: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)


def _adapter(options: RunOptions) -> Any:
    """The configuration of a new LoRA adapter on all linear layers, if one was asked for."""
    if options.lora_r is None:
        if options.merge_adapter:
            raise UsageError("--merge-adapter merges a LoRA adapter, and there is none: give --lora-r too.")
        return None
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise UsageError('--lora-r needs the package peft.\n  pip install "dpo-data[lora]"') from error
    # alpha = 2 r, as the LoRA paper's successors settled on; Hu et al. 2021, arXiv:2106.09685, only fix the ratio.
    return LoraConfig(
        r=options.lora_r, lora_alpha=2 * options.lora_r, target_modules="all-linear", task_type="CAUSAL_LM"
    )


def _quantization(options: RunOptions) -> dict[str, Any]:
    """What `from_pretrained` is told for weights of four bits: NF4, quantised twice (Dettmers et al. 2023).

    Source: arXiv:2305.14314, section 3.
    """
    if not options.load_in_4bit:
        return {}
    if options.lora_r is None:
        raise UsageError("--load-in-4bit freezes the weights, so that there is nothing to train: give --lora-r too.")
    if options.merge_adapter:
        raise UsageError("--merge-adapter would merge into weights of four bits: leave it out, and merge afterwards.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError("--load-in-4bit needs the package bitsandbytes.\n  pip install bitsandbytes")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if options.dtype in ("float32", "auto") else getattr(torch, options.dtype),
    )
    return {"quantization_config": config}


def _check_output(options: RunOptions) -> None:
    output = options.output
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: it is a file; --output names a folder.")
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them.")
    if (output / "metrics.jsonl").exists() and not (options.resume or options.overwrite):
        raise UsageError(f"{output}: it holds a run already.\n  Go on with it: --resume. Replace it: --overwrite.")


def _config(options: RunOptions) -> DPOConfig:
    """Training arguments, with the micro-batches that make up the wanted pairs per optimizer step."""
    given = dict(options.training)
    if given.get("fp16") and not torch.cuda.is_available():
        raise UsageError("--fp16 would compute in float32 here, as there is no GPU: take --bf16, or leave it out.")
    if given.get("bf16") and not torch.cuda.is_available():
        given.setdefault("use_cpu", True)
    if "eval_steps" in given:
        given.setdefault("eval_strategy", "steps")
    if options.early_stopping is not None:
        if "eval_steps" not in given:
            raise UsageError("--early-stopping counts evaluations: say how often with --eval-steps.")
        given |= {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_strategy": "best"}
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch_size is not None:
        given |= _micro_batches(options.batch_size, ranks, given)
    home = options.cache_dir or options.data
    if os.access(home, os.W_OK) or not home.exists():  # a prepared folder may well be read-only: then in memory alone
        given.setdefault("reference_cache", str(home / "reference"))
    try:
        return DPOConfig(output_dir=str(options.output), disable_tqdm=not sys.stderr.isatty(), **given)
    except (ValueError, TypeError) as error:
        raise UsageError(f"training options: {error}") from error


def _micro_batches(batch_size: int, ranks: int, given: Mapping[str, Any]) -> dict[str, int]:
    """Micro-batch and accumulation whose product with the ranks is the batch size."""
    if batch_size < 1 or batch_size % ranks:
        raise UsageError(f"--batch-size {batch_size} cannot be spread over {ranks} processes evenly.")
    each = batch_size // ranks
    micro_batch, accumulated = given.get("per_device_train_batch_size"), given.get("gradient_accumulation_steps")
    if micro_batch is None and accumulated is None:
        micro_batch = next(size for size in range(min(each, _MICRO_BATCH), 0, -1) if each % size == 0)
    if micro_batch is None:
        micro_batch = max(each // max(accumulated or 1, 1), 1)
    if accumulated is None:
        accumulated = max(each // max(micro_batch, 1), 1)
    if micro_batch * accumulated != each:
        raise UsageError(
            f"--batch-size {batch_size} over {ranks} processes is {each} pairs each: that is not "
            f"{accumulated} micro-batches of {micro_batch}.\n"
            "  Give --batch-size with one of --per-device-train-batch-size and --gradient-accumulation-steps."
        )
    return {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulated}
