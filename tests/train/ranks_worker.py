"""One of several processes that train together, started by test_ranks.py through torchrun.

Writes what it saw to a file and leaves without the interpreter's usual end, where gloo sometimes aborts.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from conftest import make_pairs, make_tiny_model

from dpo_train import DPOConfig, DPOTrainer


def main(folder: Path, micro_batch: int, accumulation: int) -> None:
    torch.set_num_threads(1)
    args = DPOConfig(
        output_dir=str(folder / "run"),
        use_cpu=True,
        disable_tqdm=True,
        max_steps=5,
        logging_steps=1,
        learning_rate=1e-3,
        save_strategy="no",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=3,
        report_to="none",
    )
    trainer = DPOTrainer(
        make_tiny_model(),
        make_tiny_model(1),
        args=args,
        train_dataset=make_pairs(19),
        eval_dataset=make_pairs(7, seed=5),
    )
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        seen = {"weights": trainer.model.state_dict(), "log": trainer.state.log_history, "metrics": metrics}
        torch.save(seen, folder / "seen.pt")
    trainer.end()
    if dist.is_initialized():
        dist.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
