"""One training run of dpo-train or TRL, timed from the inside; prints JSON. Runs in the peers' environment.

    PYTHONPATH=. peers/bin/python benchmarks/measure/train.py --who ours --rows ROWS.arrow-folder --model M ...

The rows (a saved datasets.Dataset) have text and token ids; dpo-train trains on the ids, TRL on the text.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback

COMMON = {
    "use_cpu": True,
    "learning_rate": 1e-6,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "logging_steps": 1,
    "save_strategy": "no",
    "train_sampling_strategy": "sequential",
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 0,
}


class Clock(TrainerCallback):
    """Times at which each optimizer step begins and ends."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.train_begin = self.train_end = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.train_begin = time.perf_counter()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.train_end = time.perf_counter()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps.append(time.perf_counter() - self.begin)


def make_trainer(options: argparse.Namespace, model: Any, rows: Any, clock: Clock, output: str) -> Any:
    half = options.dtype == "bfloat16"
    at_once = options.at_once or options.pairs
    settings = COMMON | {
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": options.pairs // at_once,
        "num_train_epochs": 1,
        "bf16": half,
    }
    if options.who == "trl":
        import trl

        args = trl.DPOConfig(
            output_dir=output,
            max_length=None,
            gradient_checkpointing=False,
            precompute_ref_log_probs=options.warm,
            precompute_ref_batch_size=at_once,
            **settings,
        )
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        text = rows.select_columns(["prompt", "chosen", "rejected"])
        return trl.DPOTrainer(model, args=args, train_dataset=text, processing_class=tokenizer, callbacks=[clock])
    from dpo_train import DPOConfig, DPOTrainer
    from dpo_train.memory.allocator import disable_malloc_trim

    disable_malloc_trim()  # as the command does
    args = DPOConfig(
        output_dir=output,
        attention_path="padded" if options.who == "padded" else "shared",
        max_tokens_per_microbatch=options.budget,
        **settings,
    )
    return DPOTrainer(model, args=args, train_dataset=rows, callbacks=[clock])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--who", choices=["ours", "padded", "trl"], required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--random", action="store_true", help="random weights with the configuration of the model")
    parser.add_argument("--pairs", type=int, default=4, help="pairs per optimizer step")
    parser.add_argument("--at-once", type=int, help="pairs per forward pass; default: the whole step")
    parser.add_argument("--warm", action="store_true", help="reference log-probabilities before the clock starts")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="bfloat16: autocast")
    parser.add_argument("--budget", type=int, default=None)
    options = parser.parse_args()

    rows = datasets.load_from_disk(str(options.rows))
    if options.random:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model), dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    clock = Clock()
    with tempfile.TemporaryDirectory() as output:
        begin = time.perf_counter()
        trainer = make_trainer(options, model, rows, clock, output)
        made = time.perf_counter() - begin
        fill_s = 0.0
        if options.who != "trl":
            begin = time.perf_counter()
            trainer.resolve_packing()
            probe_s = time.perf_counter() - begin
            begin = time.perf_counter()
            trainer.compute_reference(skip_first_step=True)  # as train() does
            fill_s = time.perf_counter() - begin
        trainer.train()
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    print(
        json.dumps(
            {
                "loop_s": clock.train_end - clock.train_begin,
                "fill_s": fill_s,
                "probe_s": probe_s if options.who != "trl" else 0.0,
                "make_s": made,
                "steps_s": clock.steps,
                "losses": losses,
                "tokens": trainer.state.num_input_tokens_seen,
                "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            }
        )
    )


if __name__ == "__main__":
    main()
