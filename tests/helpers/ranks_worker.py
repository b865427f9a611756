"""The training that test_ranks.py compares: in one process, or as one of several started through torchrun.

A worker writes what it saw to files and leaves without the interpreter's usual end, where gloo sometimes aborts.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from toys import make_pairs
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig

from dpo_train import DPOConfig, DPOTrainer
from dpo_train.sharding import is_sharded


class Case(NamedTuple):
    """A way to train on steps of 8 pairs.

    Attributes:
        micro_batch: pairs.
        accumulation: micro-batches.
        sharded: both ranks share one model (FSDP2), or hold one each (DDP).
        path: shared or padded.
        own_reference: the reference is the policy before training, its values stored on disk.
        most_tokens: of a packed micro-batch.
    """

    micro_batch: int
    accumulation: int
    sharded: bool
    path: str
    own_reference: bool = False
    most_tokens: int = 1000


CASES = [
    Case(4, 1, sharded=False, path="padded"),
    Case(1, 4, sharded=False, path="padded"),
    Case(4, 1, sharded=True, path="padded"),
    Case(4, 1, sharded=False, path="shared", most_tokens=30),
    Case(1, 4, sharded=False, path="shared", own_reference=True, most_tokens=30),
    Case(4, 1, sharded=True, path="shared", own_reference=True, most_tokens=30),
]


class TwoRanks(NamedTuple):
    """Two processes that go through all cases of this file.

    Attributes:
        folder: their models and what they write.
        running: torchrun, which ends when they do.
        errors: a file of what they print on standard error.
    """

    folder: Path
    running: subprocess.Popen[bytes]
    errors: Path


def alone(case: Case) -> Case:
    """The same in one process."""
    return case._replace(micro_batch=8, accumulation=1, sharded=False, most_tokens=1000)


def train(models: Path, output: Path, case: Case) -> DPOTrainer:
    """Train on 19 pairs in steps of 8, and write to `output` what was seen."""
    options: dict[str, Any] = {"distributed_config": DistributedConfig(fsdp_size=2)} if case.sharded else {}
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
        per_device_train_batch_size=case.micro_batch,
        gradient_accumulation_steps=case.accumulation,
        per_device_eval_batch_size=3,
        attention_path=case.path,
        max_tokens_per_microbatch=case.most_tokens,
        reference_cache=str(output / "reference") if case.own_reference else None,
    )
    trainer = DPOTrainer(
        policy,
        None if case.own_reference else reference,
        args=args,
        train_dataset=make_pairs(19),
        eval_dataset=make_pairs(7, seed=5),
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    steps, rows, table = trainer.pair_metrics.history()
    if trainer.is_world_process_zero():
        seen = {
            "sharded": is_sharded(trainer.model),
            "log": trainer.state.log_history,
            "metrics": metrics,
            "pairs": {
                (int(step), int(row)): values.tolist() for step, row, values in zip(steps, rows, table, strict=True)
            },
        }
        torch.save(seen, output / "seen.pt")
    return trainer


def main(folder: Path) -> None:
    """All cases, one after the other."""
    torch.set_num_threads(1)
    gc.freeze()  # as conftest.py does it
    for number, case in enumerate(CASES):
        trainer = train(folder, folder / str(number), case)
    dist.barrier()
    trainer.end()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
