"""The training that test_ranks.py compares: in one process, or as one of several started through torchrun.

A worker writes what it saw to files and leaves without the interpreter's usual end, where gloo sometimes aborts.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from toys import make_pairs
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

from dpo_train import DPOConfig, DPOTrainer
from dpo_train.reference import is_sharded

#: Micro-batch, accumulation, and whether both ranks share one model (FSDP2) or hold one each (DDP): steps of 8 pairs.
CASES = [(4, 1, False), (1, 4, False), (4, 1, True)]


def train(models: Path, output: Path, micro_batch: int, accumulation: int, sharded: bool) -> DPOTrainer:
    """Train on 19 pairs in steps of 8, and write to `output` what was seen."""
    options: dict[str, Any] = {"distributed_config": DistributedConfig(fsdp_size=2)} if sharded else {}
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(models / name, **options) for name in ("policy", "reference")
    )
    args = DPOConfig(
        output_dir=str(output),
        use_cpu=True,
        disable_tqdm=True,
        max_steps=5,
        logging_steps=1,
        learning_rate=1e-3,
        save_strategy="no",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=3,
    )
    trainer = DPOTrainer(policy, reference, args=args, train_dataset=make_pairs(19), eval_dataset=make_pairs(7, seed=5))
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    if trainer.is_world_process_zero():
        seen = {"sharded": is_sharded(trainer.model), "log": trainer.state.log_history, "metrics": metrics}
        torch.save(seen, output / "seen.pt")
    return trainer


def main(folder: Path) -> None:
    """All cases, one after the other."""
    torch.set_num_threads(1)
    for number, case in enumerate(CASES):
        trainer = train(folder, folder / str(number), *case)
    dist.barrier()
    trainer.end()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
