"""A run, its plan and its result in words."""

from typing import TYPE_CHECKING

from dpo_train.config import DPOConfig
from dpo_train.data.rows import PairRows
from dpo_train.trainer.trainer import DPOTrainer

if TYPE_CHECKING:
    from dpo_train.run.outputs import RunResult
    from dpo_train.run.plan import Plan


def describe_path(trainer: DPOTrainer) -> str:
    """Return how batches are computed."""
    if trainer.padding_reason is not None:
        return f"padded: {trainer.padding_reason}"
    text = f"shared prompts, no padding, up to {trainer.resolve_packing().max_tokens:,} tokens at a time"
    if not isinstance(trainer.train_dataset, PairRows):
        return text
    distinct, all_tokens = trainer.train_dataset.distinct_tokens, trainer.train_dataset.two_sequence_tokens
    return f"{text}; {distinct:,} distinct tokens, {1 - distinct / all_tokens:.0%} fewer than two sequences per pair"


def describe_batch(args: DPOConfig, *, shared: bool = False) -> str:
    """Return the pairs of an optimizer step and, for padded batches, how they are split."""
    ranks, accumulated, micro_batch = (
        args.world_size,
        args.gradient_accumulation_steps,
        args.per_device_train_batch_size,
    )
    pairs = f"{ranks * accumulated * micro_batch} pairs a step"
    return pairs if shared else f"{pairs} ({ranks} x {accumulated} x {micro_batch})"


def show_plan(plan: "Plan") -> None:
    """Print the plan of a run to standard output."""
    trained = f", {plan.trained_parameters:,} of them trained"
    if plan.trained_parameters > plan.parameters // 2:
        trained = ""
    lines = {
        "model": plan.model,
        "tokens": plan.tokens or "none fits yet; the run makes the cache",
        "pairs": ", ".join(f"{name} {count:,}" for name, count in plan.pairs.items()),
        "truncated": plan.truncated,
        "longest": f"{plan.longest_pair:,} tokens, prompt and response",
        "distinct": f"{plan.distinct_tokens:,} tokens in train",
        "path": plan.path,
        "steps": f"{plan.steps:,} of {plan.micro_batches}",
        "parameters": f"{plan.parameters:,}{trained}",
        "memory": f"about {plan.memory_gib:.1f} GiB plus activations (an estimate)",
    }
    for title, value in lines.items():
        if value:
            print(f"{title:10} {value}")


def show_result(result: "RunResult") -> None:
    """Print the evaluation before and after a run, and where its files are, to standard output."""
    from rich.console import Console

    from dpo_train.run.report import before_and_after, saved_model

    if result.before:
        console = Console()
        table = before_and_after(result.before, result.after, saved_model(result.steps, result.saved_step))
        table.box = table.box if console.is_terminal else None
        console.print(table)
    if result.steps:
        print(f"steps    {result.steps}")
    files = {
        "model": "config.json",
        "curves": "curves.png",
        "report": "report.html",
        "metrics": "metrics.jsonl",
        "pairs": "pairs.parquet",
    }
    for title, name in files.items():
        if (result.output / name).exists():
            print(f"{title:8} {result.output if title == 'model' else result.output / name}")
