"""From options to a finished run: load model and tokens, train, evaluate before and after, save, report."""

import dataclasses
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, EarlyStoppingCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from dpo_data.errors import InputError, UsageError
from dpo_train.attention import why_not_served
from dpo_train.checkpoints import newest_checkpoint, require_whole
from dpo_train.config import DPOConfig
from dpo_train.data import PairRows, data_card, training_tokens
from dpo_train.memory import suggested_tokens
from dpo_train.models import without_dropout
from dpo_train.reference import ModelOnDemand
from dpo_train.report import MetricsFile, ProgressLine, RunReport, Sample, write_report
from dpo_train.trainer import COLUMNS, DPOTrainer

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


@dataclass(frozen=True)
class RunResult:
    """What came of it: evaluation metrics before and after (empty without a test split), and where things lie."""

    output: Path
    tokens: Path
    steps: int
    pairs: int
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """What a run would do. Memory is an estimate: weights, gradients, Adam's state and logits, without activations.

    Attributes:
        tokens: the token cache.
        pairs: by split.
        longest_pair: in tokens, prompt and longer response.
        distinct_tokens: of the training split, each prompt and each response to it counted once.
        steps: optimizer steps.
        micro_batches: pairs of a step and how they would be cut if padded.
        path: how a batch would be computed, as far as the configuration tells.
        parameters: of the model.
        memory_gib: on each device.
    """

    tokens: Path
    pairs: Mapping[str, int]
    longest_pair: int
    distinct_tokens: int
    steps: int
    micro_batches: str
    path: str
    parameters: int
    memory_gib: float


def plan(options: RunOptions) -> Plan:
    """What `run` would do with the same options; loads no weights and writes nothing but a missing token cache.

    Raises:
        DataError: as `run` would, as far as it can be known without the model.
    """
    args, cache, splits = _inputs(options)
    rows = {name: PairRows(split, f"{cache.path} {name}") for name, split in splits.items()}
    config = _load(AutoConfig, options.model)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = model.num_parameters()
    why_padded = "asked for" if args.attention_path == "padded" else why_not_served(without_dropout(model))
    for split in rows.values():
        split.check_fits(config.vocab_size, getattr(config, "max_position_embeddings", None))
    longest = max(split.longest_pair for split in rows.values())
    step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps = args.max_steps if args.max_steps > 0 else -(-len(rows["train"]) * args.num_train_epochs // step)
    size = 2 if options.dtype in ("bfloat16", "float16") else 4
    # Weights, gradients and two moments of Adam; padded, the reference's weights too. Logits and their gradient.
    weights = parameters * size * (4 if why_padded is None else 5)
    positions = args.max_tokens_per_microbatch or suggested_tokens(model, torch.device("cpu"))
    if why_padded is not None:
        positions = 2 * args.per_device_train_batch_size * longest
    logits = positions * config.vocab_size * 4 * 2
    return Plan(
        tokens=cache.path,
        pairs={name: len(split) for name, split in rows.items()},
        longest_pair=longest,
        distinct_tokens=rows["train"].distinct_tokens if "train" in rows else 0,
        steps=int(steps),
        micro_batches=_batch_described(args),
        path=f"padded: {why_padded}" if why_padded else "shared prompts",
        parameters=parameters,
        memory_gib=(weights + logits) / 2**30,
    )


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
        require_whole(checkpoint)
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
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    if not trainer.is_world_process_zero():
        say = _keep_quiet
    say(f"tokens     {cache.path}")
    say(f"pairs      {', '.join(f'{name} {len(rows):,}' for name, rows in splits.items())}")
    trainer.choose_path()
    say(f"batch      {_batch_described(args, trainer.why_padded is None)}")
    say(f"path       {_path_described(trainer)}")
    say(f"reference  {options.reference or trainer.reference.description}")
    samples = _Samples(trainer, options.generate_samples if "test" in splits else 0)
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
    trained = trainer.trained_pairs()
    if trainer.is_world_process_zero():
        options.output.mkdir(parents=True, exist_ok=True)
        _write_pairs(trainer, trained, options.output / "pairs.parquet")
        write_report(options.output, _report(options, result, trainer, written))
    if args.world_size > 1:
        trainer.end()  # gloo's threads may abort the process at its exit otherwise
    return result


def _keep_quiet(line: str) -> None:
    pass


def _inputs(options: RunOptions) -> tuple[DPOConfig, Any, Any]:
    """Training arguments, token cache and its splits."""
    args = _config(options)
    cache = training_tokens(
        options.data,
        model=options.model,
        tokenizer=_load(AutoTokenizer, options.model),
        key=options.tokens,
        cache_dir=options.cache_dir,
        options=options.truncation,
    )
    splits = cache.dataset()
    needed = "test" if options.eval_only else "train"
    if needed not in splits:
        raise UsageError(f"{cache.path}: it has no {needed} split, only {', '.join(splits) or 'nothing'}.")
    return args, cache, splits


def _callbacks(options: RunOptions) -> list[transformers.TrainerCallback]:
    callbacks = [ProgressLine()]
    if not options.eval_only:
        callbacks.append(MetricsFile(options.output / "metrics.jsonl"))
    if options.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.early_stopping))
    return callbacks


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


def _remove_earlier_run(output: Path) -> None:
    for checkpoint in output.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


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


def _path_described(trainer: DPOTrainer) -> str:
    if trainer.why_padded is not None:
        return f"padded: {trainer.why_padded}"
    text = f"shared prompts, no padding, up to {trainer.most_tokens:,} tokens at a time"
    if not isinstance(trainer.train_dataset, PairRows):
        return text
    distinct, all_tokens = trainer.train_dataset.distinct_tokens, trainer.train_dataset.two_sequence_tokens
    return f"{text}; {distinct:,} distinct tokens, {1 - distinct / all_tokens:.0%} less than two sequences a pair"


def _batch_described(args: DPOConfig, shared: bool = False) -> str:
    ranks = args.world_size
    pairs = args.per_device_train_batch_size * args.gradient_accumulation_steps * ranks
    if shared:
        return f"{pairs} pairs a step"
    micro_batch, accumulated = args.per_device_train_batch_size, args.gradient_accumulation_steps
    return f"{micro_batch * accumulated * ranks} pairs a step ({ranks} x {accumulated} x {micro_batch})"


def _load(factory: Any, model: str, **options: Any) -> Any:
    """A model, tokenizer or configuration, with the loader's errors in words for the user."""
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise InputError(f"{model}: there is no such folder.\n  --model takes the folder of a saved model.")
    try:
        return factory.from_pretrained(model, **options)
    except Exception as error:  # transformers raises many kinds, some of them for a file that is not there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
        what = {AutoTokenizer: "tokenizer", AutoConfig: "configuration"}.get(factory, "weights")
        raise InputError(
            f"{model}: its {what} cannot be loaded: {reason}.\n"
            "  --model takes the folder of a saved model with its tokenizer, or the id of one on the hub."
        ) from error


class _Samples:
    """Texts that models write to the first prompts of the test split."""

    def __init__(self, trainer: DPOTrainer, count: int) -> None:
        self._trainer = trainer
        self._rows: list[Any] = []
        if count and trainer.tokenizer is not None:
            self._rows = [trainer.eval_dataset[row] for row in range(min(count, len(trainer.eval_dataset)))]

    def written_by(self, writer: Any) -> list[str]:
        """A text for each prompt, the prompt included."""
        if not self._rows:
            return []
        self._trainer.model.eval()
        return self._trainer.texts_by(writer, self._trainer.data_collator(self._rows))

    def beside(self, before: list[str], after: list[str]) -> list[Sample]:
        """The texts of two writers, without the prompt that both begin with."""
        decode = getattr(self._trainer.tokenizer, "decode", None)
        prompts = [decode(row["prompt_ids"], skip_special_tokens=True) for row in self._rows] if decode else []
        return [
            Sample(prompt, old.removeprefix(prompt), new.removeprefix(prompt))
            for prompt, old, new in zip(prompts, before, after, strict=True)
        ]


def _write_pairs(trainer: DPOTrainer, trained: tuple[np.ndarray, np.ndarray, np.ndarray], path: Path) -> None:
    """Write what was measured of every pair: when it was trained on, and in the last evaluation.

    Columns: split, id, origin, step, policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps,
    margin (of the rewards).
    """
    parts = []
    steps, rows, table = trained
    if len(rows):
        parts.append(("train", trainer.train_dataset, steps, rows, table))
    if trainer.evaluated is not None:
        count = len(trainer.evaluated)
        steps = np.full(count, trainer.state.global_step)
        parts.append(("test", trainer.eval_dataset, steps, np.arange(count), trainer.evaluated))
    kept = {
        "policy_chosen_logps": "logps/chosen",
        "policy_rejected_logps": "logps/rejected",
        "ref_chosen_logps": "reference_logps/chosen",
        "ref_rejected_logps": "reference_logps/rejected",
        "margin": "rewards/margins",
    }
    tables = [
        pa.table(
            {
                "split": [split] * len(rows),
                "id": dataset.column("id", rows),
                "origin": dataset.column("origin", rows),
                "step": steps,
                **{name: values[:, COLUMNS.index(column)] for name, column in kept.items()},
            }
        )
        for split, dataset, steps, rows, values in parts
    ]
    if tables:
        pyarrow.parquet.write_table(pa.concat_tables(tables), path)


def _report(options: RunOptions, result: RunResult, trainer: DPOTrainer, samples: list[Sample]) -> RunReport:
    return RunReport(
        title=f"{Path(options.model).name} on {options.data}",
        model=options.model,
        data=options.data,
        card=data_card(options.data),
        loss=trainer.loss_type,
        records=trainer.state.log_history,
        before=result.before,
        after=result.after,
        options={name: value for name, value in dataclasses.asdict(options).items() if value not in (None, {}, False)},
        samples=samples,
        trained=not options.eval_only,
    )
