"""Metrics of dpo-train compared with TRL's DPOTrainer, step by step, on the same rows, model and hyperparameters.

    PYTHONPATH=. peers/bin/python benchmarks/trl_agreement.py --model M --data prepared/ --output table.md
    PYTHONPATH=. peers/bin/python benchmarks/trl_agreement.py --toy --freeze tests/dpo_train/trainer/trl_reference.json
    PYTHONPATH=. peers/bin/python benchmarks/trl_agreement.py --losses --output losses.md

`peers/` is an environment with trl==1.16.0 and the dependencies of this project (benchmarks/README.md).
`--losses` compares each loss that both implement over 5 steps of the tests' tiny model, in micro-batches of 4.
`--toy` uses the tests' tiny model and a few pairs; `--freeze` saves TRL's numbers for the test suite.

Limits: loss, grad_norm and logps 1e-4 relative; rewards 2e-5 + 1e-4 |x|.
"""

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from dpo_train import LOSSES, DPOConfig, DPOTrainer
from dpo_train.losses import needs_reference

RELATIVE = ("loss", "grad_norm", "logps/chosen", "logps/rejected")
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")
COMMON = {
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "logging_steps": 1,
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 0,
}


def records(trainer: Any) -> list[dict[str, float]]:
    trainer.train()
    return [record for record in trainer.state.log_history if "loss" in record]


def run_trl(
    load: Any, tokenizer: Any, rows: datasets.Dataset, options: dict[str, Any], loss_type: str
) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        args = trl.DPOConfig(
            output_dir=folder, beta=0.1, loss_type=[loss_type], max_length=None, bf16=False,
            gradient_checkpointing=False, **options,
        )  # fmt: skip
        return records(trl.DPOTrainer(load(), load(), args=args, train_dataset=rows, processing_class=tokenizer))


def run_ours(
    load: Any, tokenizer: Any, rows: datasets.Dataset, options: dict[str, Any], loss_type: str
) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(output_dir=folder, loss_type=loss_type, **options)
        reference = load() if needs_reference(LOSSES[loss_type]) else None
        # longer than any row here, so that neither side cuts
        return records(
            DPOTrainer(load(), reference, args=args, beta=0.1, train_dataset=rows, tokenizer=tokenizer, max_length=4096)
        )


def excess(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Return the difference of each number in units of its limit; up to 1 is accepted."""
    found = {name: abs(ours[name] - theirs[name]) / (1e-4 * abs(theirs[name])) for name in RELATIVE}
    return found | {name: abs(ours[name] - theirs[name]) / (2e-5 + 1e-4 * abs(theirs[name])) for name in REWARDS}


def table(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> str:
    lines = [
        "| step | loss TRL | loss ours | grad_norm TRL | grad_norm ours | margin TRL | margin ours | worst, in limits |"
    ]
    lines.append("|" + "---|" * 8)
    for one, other in zip(ours, theirs, strict=True):
        worst = excess(one, other)
        name = max(worst, key=lambda key: worst[key])
        cells = [f"{record[key]:.6f}" for key in ("loss", "grad_norm", "rewards/margins") for record in (other, one)]
        lines.append(f"| {one['step']} | {' | '.join(cells)} | {worst[name]:.3f} {name} |")
    return "\n".join(lines)


#: Loss -> what is passed to both sides, and what is known to differ.
SHARED_LOSSES: dict[str, tuple[dict[str, Any], str]] = {
    "sigmoid": ({}, ""),
    "sigmoid with label_smoothing 0.2": ({"label_smoothing": 0.2}, "TRL ignores label_smoothing here, without a word"),
    "sigmoid_norm": ({}, "TRL divides by the response's tokens as well"),
    "hinge": ({}, ""),
    "ipo": ({}, "per token on both sides"),
    "robust": ({"label_smoothing": 0.1}, ""),
    "apo_zero": ({}, ""),
    "apo_down": ({}, ""),
    "sft": ({}, "TRL: mean over the micro-batch's tokens; ours: mean over pairs, whatever the micro-batch"),
}


def compare_losses() -> str:
    load, tokenizer, rows = toy()
    options = COMMON | {"max_steps": 5, "per_device_train_batch_size": 4, "use_cpu": True, "learning_rate": 1e-4}
    lines = [
        "| loss | first step, TRL | first step, ours | largest difference in 5 steps | |",
        "|" + "---|" * 5,
    ]
    for title, (extra, note) in SHARED_LOSSES.items():
        name = title.split()[0]
        theirs = run_trl(load, tokenizer, rows.select(range(20)), options | extra, name)
        ours = run_ours(load, tokenizer, rows.select(range(20)), options | extra, name)
        worst = max(abs(one["loss"] - other["loss"]) for one, other in zip(ours, theirs, strict=True))
        lines.append(f"| {title} | {theirs[0]['loss']:.6f} | {ours[0]['loss']:.6f} | {worst:.1e} | {note} |")
    return "\n".join(lines)


def toy() -> tuple[Any, Any, datasets.Dataset]:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "train"))
    from toys import make_text_pairs, make_tiny_model, make_tiny_tokenizer

    return make_tiny_model, make_tiny_tokenizer(), make_text_pairs(80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--longest", type=int, default=10_000, help="characters of prompt and longer response")
    parser.add_argument("--loss", default="sigmoid")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--losses", action="store_true")
    parser.add_argument("--freeze", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()

    if options.losses:
        text = f"# Losses compared with TRL {trl.__version__}\n\n{compare_losses()}\n"
        print(text)
        if options.output:
            options.output.write_text(text)
        return

    common = COMMON | {"max_steps": options.steps, "per_device_train_batch_size": options.batch_size}
    common |= {"learning_rate": options.learning_rate, "use_cpu": not torch.cuda.is_available()}
    if options.toy:
        load, tokenizer, rows = toy()
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        rows = datasets.load_from_disk(str(options.data))["train"].select_columns(["prompt", "chosen", "rejected"])
        rows = rows.filter(
            lambda row: len(row["prompt"]) + max(len(row["chosen"]), len(row["rejected"])) <= options.longest
        )

        def load() -> Any:
            return transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)

    rows = rows.select(range(options.steps * options.batch_size))
    theirs = run_trl(load, tokenizer, rows, common, options.loss)
    ours = run_ours(load, tokenizer, rows, common, options.loss)
    if options.freeze:
        kept = [{name: record[name] for name in (*RELATIVE, *REWARDS, "rewards/accuracies")} for record in theirs]
        options.freeze.write_text(
            json.dumps({"trl": trl.__version__, "options": common, "steps": kept}, indent=1) + "\n"
        )
    worst = max(max(excess(one, other).values()) for one, other in zip(ours, theirs, strict=True))
    text = "\n".join(
        [
            f"# Agreement with TRL {trl.__version__}, loss {options.loss}",
            "",
            f"{options.steps} steps of {options.batch_size} pairs, learning rate {options.learning_rate:g}, float32, "
            f"torch {torch.__version__}, transformers {transformers.__version__}, {platform.machine()} "
            f"{'GPU' if torch.cuda.is_available() else 'CPU'}; model {'toy' if options.toy else options.model}.",
            "Limits: loss, grad_norm and logps 1e-4 relative; rewards 2e-5 + 1e-4 |x|.",
            f"The largest difference of any number of any step is {worst:.3f} of its limit.",
            "",
            table(ours, theirs),
            "",
        ]
    )
    print(text)
    if options.output:
        options.output.write_text(text)
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
