"""From options to a finished run: load model and tokens, train, evaluate before and after, save, draw."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dpo_data.errors import InputError, UsageError
from dpo_train.checkpoints import newest_checkpoint, require_whole
from dpo_train.config import DPOConfig
from dpo_train.data import training_tokens
from dpo_train.report import MetricsFile, ProgressLine, draw_curves
from dpo_train.trainer import DPOTrainer

#: Pairs in one forward pass, where the user does not say: what TrainingArguments has too.
_MICRO_BATCH = 8


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for.

    Args:
        data: the prepared folder.
        model: a model's path or hub id.
        output: folder of the run.
        batch_size: pairs per optimizer step, over all ranks and micro-batches; None: as `training` says.
        tokens: name of a token cache.
        truncation: truncation options given, by name.
        cache_dir: where token caches are kept.
        dtype: of the weights: float32, bfloat16, float16, or auto for that of the file.
        resume: go on from the newest checkpoint of the output folder.
        overwrite: replace what the output folder holds of an earlier run.
        training: options of `DPOConfig` given, by field name.
    """

    data: Path
    model: str
    output: Path
    batch_size: int | None = None
    tokens: str | None = None
    truncation: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None
    dtype: str = "float32"
    resume: bool = False
    overwrite: bool = False
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """What came of it: evaluation metrics before and after (empty without a test split), and where things lie."""

    output: Path
    tokens: Path
    steps: int
    pairs: int
    before: Mapping[str, float]
    after: Mapping[str, float]


def run(options: RunOptions, say: Callable[[str], None]) -> RunResult:
    """Train and save a model.

    Args:
        options: what to do.
        say: takes a line for the user about what is going on.

    Raises:
        DataError: options, data and model do not go together; nothing has been written then.
    """
    _check_output(options)
    transformers.utils.logging.disable_progress_bar()
    args = _config(options)
    tokenizer = _load(AutoTokenizer, options.model)
    cache = training_tokens(
        options.data,
        model=options.model,
        tokenizer=tokenizer,
        key=options.tokens,
        cache_dir=options.cache_dir,
        options=options.truncation,
    )
    splits = cache.dataset()
    if "train" not in splits:
        raise UsageError(f"{cache.path}: it has no train split, only {', '.join(splits) or 'nothing'}.")
    checkpoint = newest_checkpoint(options.output) if options.resume else None
    if checkpoint is not None:
        require_whole(checkpoint)
    args.eval_on_start = "test" in splits and checkpoint is None
    model = _load(AutoModelForCausalLM, options.model, dtype=options.dtype)
    trainer = DPOTrainer(
        model,
        args=args,
        train_dataset=splits["train"],
        eval_dataset=splits.get("test"),
        tokenizer=tokenizer,
        callbacks=[MetricsFile(options.output / "metrics.jsonl"), ProgressLine()],
    )
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    say(f"tokens     {cache.path}")
    say(f"pairs      {', '.join(f'{name} {len(rows):,}' for name, rows in splits.items())}")
    say(f"batch      {_batch_described(args)}")
    if checkpoint is not None:
        say(f"resuming   {checkpoint}")
    if options.overwrite and trainer.is_world_process_zero():
        _remove_earlier_run(options.output)

    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    evaluations = [record for record in trainer.state.log_history if "eval_loss" in record]
    if "test" in splits and evaluations[-1]["step"] < trainer.state.global_step:
        trainer.evaluate()
        evaluations.append(trainer.state.log_history[-1])
    trainer.save_model()
    if trainer.is_world_process_zero():
        draw_curves(trainer.state.log_history, options.output / "curves.png", f"{options.model} on {options.data}")
    return RunResult(
        output=options.output,
        tokens=cache.path,
        steps=trainer.state.global_step,
        pairs=len(splits["train"]),
        before=evaluations[0] if evaluations else {},
        after=evaluations[-1] if evaluations else {},
    )


def _check_output(options: RunOptions) -> None:
    output = options.output
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: it is a file; --output names a folder.")
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run, --overwrite replaces it: give one of them.")
    if (output / "metrics.jsonl").exists() and not (options.resume or options.overwrite):
        raise UsageError(f"{output}: it holds a run already.\n  Go on with it: --resume. Replace it: --overwrite.")


def _remove_earlier_run(output: Path) -> None:
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _config(options: RunOptions) -> DPOConfig:
    """Training arguments, with the micro-batches that make up the wanted pairs per optimizer step."""
    given = dict(options.training)
    if (given.get("bf16") or given.get("fp16")) and not torch.cuda.is_available():
        given.setdefault("use_cpu", True)
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if options.batch_size is not None:
        if options.batch_size < 1 or options.batch_size % ranks:
            raise UsageError(f"--batch-size {options.batch_size} cannot be spread over {ranks} processes evenly.")
        each = options.batch_size // ranks
        if "gradient_accumulation_steps" in given:
            micro_batch = given.setdefault("per_device_train_batch_size", each // given["gradient_accumulation_steps"])
        else:
            divisors = [size for size in range(1, min(each, _MICRO_BATCH) + 1) if each % size == 0]
            micro_batch = given.setdefault("per_device_train_batch_size", divisors[-1])
            given["gradient_accumulation_steps"] = each // micro_batch if micro_batch else 0
        if micro_batch * given["gradient_accumulation_steps"] != each:
            raise UsageError(
                f"--batch-size {options.batch_size} over {ranks} processes is {each} pairs each: that is not "
                f"{given['gradient_accumulation_steps']} micro-batches of {micro_batch}.\n"
                "  Give --batch-size with one of --per-device-train-batch-size and --gradient-accumulation-steps."
            )
    try:
        return DPOConfig(output_dir=str(options.output), disable_tqdm=True, **given)
    except (ValueError, TypeError) as error:
        raise UsageError(f"training options: {error}") from error


def _batch_described(args: DPOConfig) -> str:
    ranks = args.world_size
    micro_batch, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    return f"{micro_batch * accumulated * ranks} pairs a step ({ranks} x {accumulated} x {micro_batch})"


def _load(factory: Any, model: str, **options: Any) -> Any:
    """A model or tokenizer, with the loader's errors in words for the user."""
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise InputError(f"{model}: there is no such folder.\n  --model takes the folder of a saved model.")
    try:
        return factory.from_pretrained(model, **options)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{model}: cannot be loaded: {reason}\n"
            "  --model takes the folder of a saved model, or the id of one on the hub."
        ) from error
