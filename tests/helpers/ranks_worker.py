"""Training runs of test_ranks.py: in one process, or in one of several that torchrun starts.

A worker writes its results to files and exits without the usual shutdown of the interpreter, where gloo sometimes
aborts.
"""

import gc
import os
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
        micro_batch: pairs per micro-batch.
        accumulation: micro-batches per step.
        sharded: whether ranks share one model (FSDP2), or have one each (DDP).
        path: shared or padded.
        own_reference: whether the reference is the policy before training, with its values stored on disk.
        max_tokens: distinct tokens per packed micro-batch.
        loss_type: the losses, equally weighted.
        streamed: whether the datasets are iterable.
        weighted: whether pairs have weights.
        synced: whether the reference follows the policy (TR-DPO).
    """

    micro_batch: int
    accumulation: int
    sharded: bool
    path: str
    own_reference: bool = False
    max_tokens: int = 1000
    loss_type: tuple[str, ...] = ("sigmoid",)
    streamed: bool = False
    weighted: bool = False
    synced: bool = False


CASES = [
    Case(4, 1, sharded=False, path="padded"),
    Case(1, 4, sharded=False, path="padded"),
    Case(4, 1, sharded=True, path="padded"),
    Case(4, 1, sharded=False, path="shared", max_tokens=30),
    Case(1, 4, sharded=False, path="shared", own_reference=True, max_tokens=30),
    Case(4, 1, sharded=True, path="shared", own_reference=True, max_tokens=30),
    Case(2, 2, sharded=False, path="padded", loss_type=("aot", "bco_pair")),
    Case(4, 1, sharded=False, path="shared", max_tokens=30, loss_type=("aot", "bco_pair")),
    Case(4, 1, sharded=False, path="padded", streamed=True),
    Case(2, 2, sharded=False, path="shared", max_tokens=30, loss_type=("kto_pair",), weighted=True),
    Case(2, 2, sharded=False, path="shared", max_tokens=30, synced=True),
]


def in_one_process(case: Case) -> Case:
    """Return the same training in one process."""
    return case._replace(micro_batch=8, accumulation=1, sharded=False, max_tokens=1000)


def train(models: Path, output: Path, case: Case) -> DPOTrainer:
    """Train on 19 pairs in steps of 8, and write the results to `output`."""
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
        loss_type=[*case.loss_type],
        max_tokens_per_microbatch=case.max_tokens,
        reference_cache=str(output / "reference") if case.own_reference else None,
        pair_weights="importance" if case.weighted else None,
        **({"sync_ref_model": True, "ref_model_sync_steps": 2} if case.synced else {}),
    )
    data: list[Any] = [make_pairs(19), make_pairs(7, seed=5)]
    if case.weighted:
        data[0] = data[0].add_column("importance", [1.0 + row % 3 for row in range(19)])
    if case.streamed:
        data = [pairs.to_iterable_dataset() for pairs in data]
    trainer = DPOTrainer(
        policy,
        None if case.own_reference else reference,
        args=args,
        train_dataset=data[0],
        eval_dataset=data[1],
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    steps, rows, table = trainer.pair_metrics.history()
    if trainer.is_world_process_zero():
        results = {
            "sharded": is_sharded(trainer.model),
            "log": trainer.state.log_history,
            "metrics": metrics,
            "pairs": {
                (int(step), int(row)): values.tolist() for step, row, values in zip(steps, rows, table, strict=True)
            },
        }
        torch.save(results, output / "results.pt")
    return trainer


def main(folder: Path) -> None:
    """Run all cases."""
    torch.set_num_threads(1)
    gc.freeze()  # as in conftest.py
    for number, case in enumerate(CASES):
        trainer = train(folder, folder / str(number), case)
    dist.barrier()
    trainer.end()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
