"""The shared and the padded path on real rows with a real model, step by step: the same curve.

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
    for path in ("shared", "padded"):
        with tempfile.TemporaryDirectory() as output:
            args = DPOConfig(
                output_dir=output, use_cpu=True, attention_path=path, per_device_train_batch_size=options.pairs,
                learning_rate=1e-5, lr_scheduler_type="constant", warmup_steps=0, logging_steps=1, save_strategy="no",
                report_to="none", train_sampling_strategy="sequential", disable_tqdm=True,
            )  # fmt: skip
            model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
            trainer = DPOTrainer(model, args=args, train_dataset=rows)
            trainer.train()
        logs.append([record for record in trainer.state.log_history if "loss" in record])
    lines, worst = [], dict.fromkeys(COMPARED, 0.0)
    for shared, padded in zip(*logs, strict=True):
        for name in COMPARED:
            scale = abs(padded[name]) if "rewards" not in name else 1.0
            worst[name] = max(worst[name], abs(shared[name] - padded[name]) / scale)
        lines.append([str(padded["step"]), *(f"{log[name]:.7f}" for name in COMPARED[:2] for log in (shared, padded))])
    text = [
        "# The shared and the padded path on real rows",
        "\n".join([*machine_facts(), f"- {options.model}, {options.data}: steps of {options.pairs} pairs"]),
        table(["step", "loss, shared", "loss, padded", "grad_norm, shared", "grad_norm, padded"], lines),
        "Largest difference, relative (rewards: absolute): "
        + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()),
    ]
    options.output.write_text("\n\n".join(text) + "\n")
    print(text[-1])


if __name__ == "__main__":
    main()
