"""Time from a loaded model to the first optimizer step with a filled reference store, repeated; prints JSON."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from dpo_train import DPOConfig, DPOTrainer


class FirstStep(Exception):
    """The first optimizer step was reached."""


class Stop(TrainerCallback):
    def on_step_begin(self, *_: Any, **__: Any) -> None:
        raise FirstStep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = datasets.load_from_disk(str(options.rows))
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    args = DPOConfig(
        output_dir=str(options.store / "run"), reference_cache=str(options.store), use_cpu=True, report_to="none",
        disable_tqdm=True, per_device_train_batch_size=16,
    )  # fmt: skip

    # Fill the store: compute the shortest rows, which a later run compares, and add made-up values for the rest.
    everything = DPOTrainer(model, args=args, train_dataset=rows)
    shortest = np.argsort(everything.train_dataset.pair_lengths, kind="stable")[:4]
    trainer = DPOTrainer(model, args=args, train_dataset=rows.select(shortest))
    trainer.compute_reference()
    store = trainer.reference.store
    keys = everything.train_dataset.response_keys(np.arange(len(rows))).reshape(-1, 2)
    store.add(keys, np.zeros(len(keys), np.float32), np.ones(len(keys), np.int32))
    store.save()

    starts = []
    for _ in range(options.repeats):
        laps = {"begin": time.perf_counter()}
        trainer = DPOTrainer(model, args=args, train_dataset=rows, callbacks=[Stop()])
        laps["trainer"] = time.perf_counter()
        trainer.resolve_packing()
        laps["comparing the paths"] = time.perf_counter()
        try:
            trainer.train()
        except FirstStep:
            laps["looking up the reference, first batch"] = time.perf_counter()
        starts.append(laps)
    seconds = [max(laps.values()) - laps["begin"] for laps in starts]
    middle = starts[int(np.argsort(seconds)[len(seconds) // 2])]
    times = list(middle.values())
    parts = {name: round(end - begin, 2) for name, begin, end in zip(list(middle)[1:], times, times[1:], strict=False)}
    print(json.dumps({"seconds": seconds, "parts": parts}))


if __name__ == "__main__":
    main()
