"""Packed and padded batches on real rows with a real model, step by step.

The padded path with the pairs of a step one at a time shows what rounding alone does.

python benchmarks/paths_agreement.py --model M --data prepared/ --output table.md
"""

import argparse
import tempfile
from pathlib import Path

import torch
from bench import machine_facts, table
from train_step import uncut_rows
from transformers import AutoModelForCausalLM

from dpo_train import DPOConfig, DPOTrainer

COMPARED = ("loss", "grad_norm", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected")


def apart(logs: list[dict[str, float]], others: list[dict[str, float]]) -> list[str]:
    """Return the largest difference over all steps for each of `COMPARED`."""
    worst = []
    for name in COMPARED:
        scales = [1 if "rewards" in name else abs(other[name]) for other in others]
        differences = (abs(one[name] - other[name]) for one, other in zip(logs, others, strict=True))
        worst.append(f"{max(found / scale for found, scale in zip(differences, scales, strict=True)):.1e}")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with one token cache")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--longest", type=int, default=120, help="tokens of prompt and both responses")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = uncut_rows(options.data)
    sizes = [
        sum(map(len, ids)) for ids in zip(rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"], strict=True)
    ]
    rows = rows.select(
        [row for row, size in enumerate(sizes) if size <= options.longest][: options.steps * options.pairs]
    )
    logs = []
    for path, at_once in (("shared", options.pairs), ("padded", options.pairs), ("padded", 1)):
        with tempfile.TemporaryDirectory() as output:
            args = DPOConfig(
                output_dir=output, use_cpu=True, attention_path=path, per_device_train_batch_size=at_once,
                gradient_accumulation_steps=options.pairs // at_once,
                learning_rate=1e-5, lr_scheduler_type="constant", warmup_steps=0, logging_steps=1, save_strategy="no",
                report_to="none", train_sampling_strategy="sequential", disable_tqdm=True,
            )  # fmt: skip
            model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
            trainer = DPOTrainer(model, args=args, train_dataset=rows)
            trainer.train()
        logs.append([record for record in trainer.state.log_history if "loss" in record])
    shared, padded, one_by_one = logs
    lines = [
        [str(other["step"]), *(f"{log[name]:.7f}" for name in COMPARED[:2] for log in (one, other))]
        for one, other in zip(shared, padded, strict=True)
    ]
    text = [
        "# Packed and padded batches on real rows",
        "\n".join([*machine_facts(), f"- {options.model}, {options.data}: steps of {options.pairs} pairs"]),
        table(["step", "loss, shared", "loss, padded", "grad_norm, shared", "grad_norm, padded"], lines),
        "Largest difference from the padded path, relative (rewards: absolute):",
        table(
            ["", *COMPARED],
            [["shared", *apart(shared, padded)], ["padded, one pair at a time", *apart(one_by_one, padded)]],
        ),
    ]
    options.output.write_text("\n\n".join(text) + "\n")
    print(text[-1])


if __name__ == "__main__":
    main()
