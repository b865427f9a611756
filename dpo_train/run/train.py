"""Train: from options to a finished run."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, EarlyStoppingCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dpo_data.errors import DataError, UsageError, argument, first_line
from dpo_train.adapters import MERGED_BASE
from dpo_train.data.caches import describe_tokens
from dpo_train.memory.allocator import disable_malloc_trim
from dpo_train.reference.live import ModelOnDemand
from dpo_train.run.arguments import loading_options, lora_config
from dpo_train.run.callbacks import MetricsFile, ProgressLine
from dpo_train.run.describe import describe_batch, describe_path
from dpo_train.run.inputs import Inputs, load_inputs, load_pretrained
from dpo_train.run.options import RunOptions
from dpo_train.run.outputs import RunResult, run_report, write_pairs
from dpo_train.run.report import write_report
from dpo_train.run.samples import Samples
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete
from dpo_train.trainer.trainer import DPOTrainer


def run(options: RunOptions, say: Callable[[str], None], *, quiet: bool = False) -> RunResult:
    """Train and save a model, or only evaluate it.

    Args:
        options: of the run.
        say: takes a line for the user, before training.
        quiet: show no progress of the training.

    Raises: DataError: options, data and model do not go together, and nothing has been written; or the loss is not
        finite, memory ran out, or the system refused to write.
    """
    transformers.utils.logging.disable_progress_bar()
    inputs = load_inputs(options, say)
    for tokens in inputs.tokens:
        say(f"tokens     {tokens.path}")
    for title, text in describe_tokens(inputs.tokens):
        say(f"{title:10} {text}")
    try:
        return _run(_make_trainer(inputs, quiet), inputs, say)
    except ImportError as error:  # of an optimizer or kernel that an option asks transformers for
        raise UsageError(f"an option needs a package that is missing: {first_line(error)}.") from error
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"out of memory: {first_line(error)}.\n  Use less: {argument('max_tokens_per_microbatch', 2048)}, "
            f"{argument('dtype', 'bfloat16')}, {argument('lora_r', 16)} or a shorter {argument('max_length')}."
        ) from error
    except Exception as error:  # each library that writes files has its own for a full disk
        if (reason := _write_failure(error)) is None:
            raise
        raise UsageError(f"{options.output}: writing failed: {reason}.\n{_what_is_whole(options.output)}") from error


def _write_failure(error: Exception) -> str | None:
    """Return why the system refused to write, if an exception says so; None for another exception."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.strerror or first_line(error)
    is_full = any(
        words in str(error) for words in ("No space left on device", "code: 28", "PytorchStreamWriter failed")
    )
    return "no space left on the device" if is_full and not isinstance(error, DataError) else None


def _what_is_whole(output: Path) -> str:
    """Return what of a run that stopped while it wrote can be used."""
    try:
        checkpoint = newest_checkpoint(output)
        require_complete(checkpoint)
    except UsageError:
        return "  The run has no complete checkpoint. Free some space, and start again."
    return f"  {checkpoint} is complete. Free some space, and resume there: {argument('resume', True)}."


def _make_trainer(inputs: Inputs, quiet: bool) -> DPOTrainer:
    options, args, splits = inputs.options, inputs.args, inputs.splits
    args.eval_on_start = "test" in splits and inputs.checkpoint is None and not options.eval_only
    loaded = loading_options(options)
    reference = None
    if options.reference is not None:
        reference = ModelOnDemand(
            options.reference, functools.partial(load_pretrained, AutoModelForCausalLM, options.reference, **loaded)
        )
    trainer = DPOTrainer(
        load_pretrained(AutoModelForCausalLM, str(options.model), **loaded),
        reference,
        args=args,
        train_dataset=splits.get("train"),
        eval_dataset=splits.get("test"),
        tokenizer=inputs.tokenizer,
        callbacks=_callbacks(options, quiet),
        peft_config=lora_config(options),
    )
    if args.device.type == "cpu":
        disable_malloc_trim()
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _run(trainer: DPOTrainer, inputs: Inputs, say: Callable[[str], None]) -> RunResult:
    options, splits = inputs.options, inputs.splits
    packing = trainer.resolve_packing()
    say(f"batch      {describe_batch(inputs.args, shared=packing.reason is None)}")
    say(f"path       {describe_path(trainer)}")
    say(f"reference  {options.reference or trainer.reference.description}")
    samples = Samples(trainer, options.generate_samples if "test" in splits else 0)
    before = samples.written_by(trainer.model if options.reference is None else trainer.reference)
    if options.eval_only:
        trainer.evaluate()
    else:
        if inputs.checkpoint is not None:
            say(f"resuming   {inputs.checkpoint}")
        if options.overwrite and trainer.is_world_process_zero():
            _remove_earlier_run(options.output)
        trainer.train(resume_from_checkpoint=str(inputs.checkpoint) if inputs.checkpoint else None)
    result = _evaluated(trainer, inputs)
    compared = samples.compare(before, samples.written_by(trainer.model))
    if not options.eval_only:
        if options.merge_adapter:
            trainer.model = trainer.model.merge_and_unload()
        trainer.save_model()
    trained = trainer.pair_metrics.history()
    if trainer.is_world_process_zero():
        options.output.mkdir(parents=True, exist_ok=True)
        write_pairs(trainer, trained, options.output, saved_step=result.saved_step)
        write_report(options.output, run_report(options, result, trainer, compared))
    if inputs.args.world_size > 1:
        trainer.end()  # gloo's threads may abort the process at its exit otherwise
    return result


def _evaluated(trainer: DPOTrainer, inputs: Inputs) -> RunResult:
    """Return the result of a run, after an evaluation of its model if the last one was of another step."""
    splits, state = inputs.splits, trainer.state
    step = state.global_step
    if inputs.args.load_best_model_at_end and state.best_model_checkpoint is not None and not inputs.options.eval_only:
        step = int(state.best_model_checkpoint.rpartition("-")[2])
    evaluations = [record for record in state.log_history if "eval_loss" in record]
    if "test" in splits and not (evaluations and evaluations[-1]["step"] == step):
        if step == state.global_step:
            trainer.evaluate()
            evaluations.append(state.log_history[-1])
        else:  # not logged, because the log has this step already
            measured = trainer.evaluation_loop(trainer.get_eval_dataloader(), "Evaluation").metrics
            evaluations.append({**measured, "step": step})
    return RunResult(
        output=inputs.options.output,
        tokens=inputs.tokens[0].path,
        steps=state.global_step,
        pairs=len(splits["train"]) if "train" in splits else 0,
        before=evaluations[0] if evaluations else {},
        after=evaluations[-1] if evaluations else {},
        saved_step=step,
    )


def _callbacks(options: RunOptions, quiet: bool) -> list[transformers.TrainerCallback]:
    callbacks: list[transformers.TrainerCallback] = [] if quiet else [ProgressLine()]
    if not options.eval_only:
        callbacks.append(MetricsFile(options.output / "metrics.jsonl"))
    if options.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.early_stopping))
    return callbacks


def _remove_earlier_run(output: Path) -> None:
    for folder in [*output.glob("checkpoint-*"), *output.glob(MERGED_BASE)]:
        shutil.rmtree(folder)
