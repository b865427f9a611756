"""Train: from options to a finished run."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, EarlyStoppingCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dpo_train.memory.allocator import disable_malloc_trim
from dpo_train.reference.live import ModelOnDemand
from dpo_train.run.callbacks import MetricsFile, ProgressLine
from dpo_train.run.describe import _batch_described, _path_described
from dpo_train.run.inputs import _inputs, _load
from dpo_train.run.options import RunOptions, _adapter, _check_output, _quantization
from dpo_train.run.outputs import RunResult, _report, _write_pairs
from dpo_train.run.report import write_report
from dpo_train.run.samples import Samples
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete
from dpo_train.trainer.trainer import DPOTrainer


def run(options: RunOptions, say: Callable[[str], None]) -> RunResult:
    """Train and save a model, or only evaluate it.

    Args:
        options: what to do.
        say: takes a line for the user about what is going on; called in the first process alone.

    Raises:
        DataError: options, data and model do not go together, and nothing has been written; or the loss is no number.
    """
    _check_output(options)
    transformers.utils.logging.disable_progress_bar()
    args, cache, splits = _inputs(options)
    tokenizer = _load(AutoTokenizer, options.model)
    checkpoint = newest_checkpoint(options.output) if options.resume else None
    if checkpoint is not None:
        require_complete(checkpoint)
    args.eval_on_start = "test" in splits and checkpoint is None and not options.eval_only
    settings = {"dtype": options.dtype, **_quantization(options)}
    reference = None
    if options.reference is not None:
        _load(AutoConfig, options.reference)  # the weights are loaded only where they are wanted
        reference = ModelOnDemand(
            options.reference, functools.partial(_load, AutoModelForCausalLM, options.reference, **settings)
        )
    trainer = DPOTrainer(
        _load(AutoModelForCausalLM, options.model, **settings),
        reference,
        args=args,
        train_dataset=splits.get("train"),
        eval_dataset=splits.get("test"),
        tokenizer=tokenizer,
        callbacks=_callbacks(options),
        peft_config=_adapter(options),
    )
    if args.device.type == "cpu":
        disable_malloc_trim()
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if not trainer.is_world_process_zero():
        say = _keep_quiet
    say(f"tokens     {cache.path}")
    say(f"pairs      {', '.join(f'{name} {len(rows):,}' for name, rows in splits.items())}")
    packing = trainer.resolve_packing()
    say(f"batch      {_batch_described(args, packing.reason is None)}")
    say(f"path       {_path_described(trainer)}")
    say(f"reference  {options.reference or trainer.reference.description}")
    samples = Samples(trainer, options.generate_samples if "test" in splits else 0)
    before = samples.written_by(trainer.model if options.reference is None else trainer.reference)
    if options.eval_only:
        trainer.evaluate()
    else:
        if checkpoint is not None:
            say(f"resuming   {checkpoint}")
        if options.overwrite and trainer.is_world_process_zero():
            _remove_earlier_run(options.output)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    evaluations = [record for record in trainer.state.log_history if "eval_loss" in record]
    if "test" in splits and not (evaluations and evaluations[-1]["step"] == trainer.state.global_step):
        trainer.evaluate()
        evaluations.append(trainer.state.log_history[-1])
    result = RunResult(
        output=options.output,
        tokens=cache.path,
        steps=trainer.state.global_step,
        pairs=len(splits["train"]) if "train" in splits else 0,
        before=evaluations[0] if evaluations else {},
        after=evaluations[-1] if evaluations else {},
    )
    written = samples.beside(before, samples.written_by(trainer.model))
    if not options.eval_only:
        if options.merge_adapter:
            trainer.model = trainer.model.merge_and_unload()
        trainer.save_model()
    trained = trainer.pair_metrics.history()
    if trainer.is_world_process_zero():
        options.output.mkdir(parents=True, exist_ok=True)
        _write_pairs(trainer, trained, options.output / "pairs.parquet")
        write_report(options.output, _report(options, result, trainer, written))
    if args.world_size > 1:
        trainer.end()  # gloo's threads may abort the process at its exit otherwise
    return result


def _keep_quiet(line: str) -> None:
    pass


def _callbacks(options: RunOptions) -> list[transformers.TrainerCallback]:
    callbacks = [ProgressLine()]
    if not options.eval_only:
        callbacks.append(MetricsFile(options.output / "metrics.jsonl"))
    if options.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.early_stopping))
    return callbacks


def _remove_earlier_run(output: Path) -> None:
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
