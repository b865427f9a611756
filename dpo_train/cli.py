"""dpo-train: parse, call one function, print, exit code."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dpo_data.errors import DataError, UsageError, as_flag, reading

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_MAIN, _LEARNING, _TOKENS, _RUN = "Main options", "What is learned", "Tokens", "The run"


def main() -> None:
    """Entry point of the command."""
    app()


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Take the options of a YAML file as defaults: what the command line says comes on top."""
    if path is None:
        return None
    import yaml

    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        _fail(UsageError(f"{path}: cannot be read as YAML: {error}"))
    if not isinstance(options, dict):
        _fail(UsageError(f"{path}: a mapping of option names to values is wanted, this is a {type(options).__name__}."))
    options = {str(name).replace("-", "_"): value for name, value in options.items()}
    own = {parameter.name for parameter in context.command.params} - {"config"}
    context.default_map = {name: value for name, value in options.items() if name in own}
    context.obj = {name: value for name, value in options.items() if name not in own}
    return path


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Prepared folder: dpo-data convert makes it.", rich_help_panel=_MAIN)],
    model: Annotated[str, typer.Option(help="Folder or hub id of the model to train.", rich_help_panel=_MAIN)],
    output: Annotated[Path, typer.Option(help="Folder of the run.", rich_help_panel=_MAIN)],
    config: Annotated[
        Path | None,
        typer.Option(
            callback=_read_config,
            is_eager=True,
            help="YAML file with any options of this command; options given here come on top.",
            rich_help_panel=_MAIN,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pairs per optimizer step, all processes together.", rich_help_panel=_MAIN)
    ] = 64,
    max_steps: Annotated[
        int | None, typer.Option(help="Optimizer steps; without it, one pass over the pairs.", rich_help_panel=_MAIN)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate; 1e-6 without it.", rich_help_panel=_MAIN)
    ] = None,
    beta: Annotated[float, typer.Option(help="Strength of the pull to the reference.", rich_help_panel=_MAIN)] = 0.1,
    loss: Annotated[
        str | None,
        typer.Option(
            help="sigmoid, ipo, sft, ...: an unknown name lists all; sigmoid without it.", rich_help_panel=_LEARNING
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Folder or hub id of the reference; the model before training without it.", rich_help_panel=_LEARNING
        ),
    ] = None,
    lora_r: Annotated[
        int | None, typer.Option(min=1, help="Train a LoRA adapter of this rank.", rich_help_panel=_LEARNING)
    ] = None,
    load_in_4bit: Annotated[
        bool,
        typer.Option(
            "--load-in-4bit", help="Frozen weights in four bits, with --lora-r (QLoRA).", rich_help_panel=_LEARNING
        ),
    ] = False,
    merge_adapter: Annotated[
        bool,
        typer.Option("--merge-adapter", help="Save the model with its adapter merged in.", rich_help_panel=_LEARNING),
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Random seed; 42 without it.", rich_help_panel=_MAIN)] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "auto"],
        typer.Option(help="Of the weights; auto is that of the file.", rich_help_panel=_MAIN),
    ] = "float32",
    tokens: Annotated[
        str | None, typer.Option(help="Name of the token cache to train on.", rich_help_panel=_TOKENS)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Longest prompt + response, in tokens.", rich_help_panel=_TOKENS)
    ] = None,
    max_prompt_length: Annotated[
        int | None, typer.Option(min=1, help="Longest prompt, in tokens.", rich_help_panel=_TOKENS)
    ] = None,
    truncation_mode: Annotated[
        Literal["keep_end", "keep_start"] | None,
        typer.Option(help="Which part of a prompt that is too long stays.", rich_help_panel=_TOKENS),
    ] = None,
    on_overlong: Annotated[
        Literal["truncate", "drop", "fail"] | None,
        typer.Option(help="What becomes of pairs that are too long.", rich_help_panel=_TOKENS),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Jinja template for conversations, if not the tokenizer's.",
            rich_help_panel=_TOKENS,
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where token caches are kept, if not in --data.", rich_help_panel=_TOKENS)
    ] = None,
    attention_path: Annotated[
        Literal["auto", "shared", "padded"] | None,
        typer.Option(help="Each prompt once, or two padded sequences a pair; auto.", rich_help_panel=_LEARNING),
    ] = None,
    max_tokens_per_microbatch: Annotated[
        int | None, typer.Option(min=1, help="Tokens computed at a time; bounds the memory.", rich_help_panel=_LEARNING)
    ] = None,
    precompute_reference: Annotated[
        bool | None,
        typer.Option(
            help="Ask the reference about all rows first; without this, about those of the run.",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    eval_steps: Annotated[
        float | None,
        typer.Option(help="Evaluate every so many steps; below 1, a share of them.", rich_help_panel=_RUN),
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many evaluations without a lower loss.", rich_help_panel=_RUN),
    ] = None,
    generate_samples: Annotated[
        int, typer.Option(min=0, help="Write to so many test prompts, before and after.", rich_help_panel=_RUN)
    ] = 0,
    report_to: Annotated[
        str | None, typer.Option(help="Tracker: tensorboard, wandb, mlflow, ...", rich_help_panel=_RUN)
    ] = None,
    eval_only: Annotated[
        bool,
        typer.Option("--eval-only", help="Evaluate the model on the test split, no training.", rich_help_panel=_RUN),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run, and stop.", rich_help_panel=_RUN)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --output.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in --output.", rich_help_panel=_RUN)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=_RUN)] = False,
) -> None:
    """Train a model on prepared pairs by direct preference optimisation.

    Every other field of transformers.TrainingArguments is an option too: --warmup-steps 10, --bf16, --save-steps 100.
    """
    truncation: dict[str, Any] = {
        "max_length": max_length,
        "max_prompt_length": max_prompt_length,
        "truncation_mode": truncation_mode,
        "on_overlong": on_overlong,
    }
    training = {
        "max_steps": max_steps,
        "learning_rate": learning_rate,
        "beta": beta,
        "loss_type": loss,
        "seed": seed,
        "eval_steps": eval_steps,
        "report_to": report_to,
        "attention_path": attention_path,
        "max_tokens_per_microbatch": max_tokens_per_microbatch,
        "precompute_reference": precompute_reference,
    }
    try:
        from dpo_train.config import as_words, parse_training_options, refuse_unknown, training_fields
        from dpo_train.run.options import RunOptions
        from dpo_train.run.plan import plan
        from dpo_train.run.train import run

        own = [parameter.name or "" for parameter in context.command.params]
        if chat_template is not None:
            with reading(chat_template):
                truncation["chat_template"] = chat_template.read_text(encoding="utf-8")
        from_file: dict[str, Any] = context.obj or {}
        refuse_unknown(from_file, [*training_fields(), *own], str(config))
        given = parse_training_options([*as_words(from_file), *context.args], known=own)
        options = RunOptions(
            data=data,
            model=model,
            output=output,
            reference=reference,
            batch_size=batch_size,
            tokens=tokens,
            truncation=_given(truncation),
            cache_dir=cache_dir,
            dtype=dtype,
            lora_r=lora_r,
            load_in_4bit=load_in_4bit,
            merge_adapter=merge_adapter,
            early_stopping=early_stopping,
            generate_samples=generate_samples,
            eval_only=eval_only,
            resume=resume,
            overwrite=overwrite,
            training=given | _given(training),
        )
        if dry_run:
            _show_plan(plan(options), as_json)
            return
        result = run(options, say=lambda line: typer.echo(line, err=True))
    except DataError as error:
        _fail(error)
    except KeyboardInterrupt:
        typer.echo("Stopped. Go on from the last checkpoint, if one was saved: --resume.", err=True)
        raise typer.Exit(130) from None
    if os.environ.get("RANK", "0") == "0":
        _show(result, as_json)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _show(result: Any, as_json: bool) -> None:
    if as_json:
        _print_json(result)
        return
    from rich.console import Console

    from dpo_train.run.report import before_and_after

    console = Console(file=sys.stdout)
    if result.before:
        console.print(before_and_after(result.before, result.after))
    lines = [("steps", str(result.steps))] if result.steps else []
    for title, name in (
        ("model", "config.json"),
        ("curves", "curves.png"),
        ("report", "report.html"),
        ("metrics", "metrics.jsonl"),
        ("pairs", "pairs.parquet"),
    ):
        if (result.output / name).exists():
            lines.append((title, str(result.output if title == "model" else result.output / name)))
    for title, value in lines:
        typer.echo(f"{title:9}{value}")


def _show_plan(found: Any, as_json: bool) -> None:
    if as_json:
        _print_json(found)
        return
    typer.echo(f"tokens     {found.tokens}")
    typer.echo(f"pairs      {', '.join(f'{name} {count:,}' for name, count in found.pairs.items())}")
    typer.echo(f"longest    {found.longest_pair:,} tokens, prompt and response")
    typer.echo(f"tokens     {found.distinct_tokens:,} distinct ones in train")
    typer.echo(f"path       {found.path}")
    typer.echo(f"steps      {found.steps:,} of {found.micro_batches}")
    typer.echo(f"parameters {found.parameters:,}")
    typer.echo(f"memory     about {found.memory_gib:.1f} GiB and activations, with all weights trained (an estimate)")


def _print_json(result: Any) -> None:
    typer.echo(json.dumps(dataclasses.asdict(result), default=str, indent=2))


def _fail(error: DataError) -> None:
    typer.echo(error.spelled(as_flag), err=True)
    raise typer.Exit(error.exit_code)
