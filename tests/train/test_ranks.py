"""Several processes that train together give what one gives."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_train.trainer import METRICS


def train(folder: Path, ranks: int, micro_batch: int, accumulation: int) -> dict[str, Any]:
    """19 pairs in steps of 8: two full steps and one of 3 pairs, in which one of two ranks may have nothing to do."""
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    worker = Path(__file__).with_name("ranks_worker.py")
    command = [sys.executable, *launcher, str(worker), str(folder), str(micro_batch), str(accumulation)]
    root = worker.parents[2]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}:{worker.parent}"}
    finished = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr[-3000:]
    seen: dict[str, Any] = torch.load(folder / "seen.pt", weights_only=False)
    return seen


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return train(tmp_path_factory.mktemp("ranks") / "one", ranks=1, micro_batch=8, accumulation=1)


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(4, 1), (1, 4)])
def test_two_ranks_give_the_weights_logs_and_evaluation_of_one(
    one_process: dict[str, Any], tmp_path: Path, micro_batch: int, accumulation: int
) -> None:
    two = train(tmp_path / "two", 2, micro_batch, accumulation)
    torch.testing.assert_close(two["weights"], one_process["weights"], rtol=1e-4, atol=1e-5)
    logs = [[record for record in seen["log"] if "loss" in record] for seen in (two, one_process)]
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4, 5]
    for record, expected in zip(*logs, strict=True):
        # epochs are counted in micro-batches
        assert record | {"epoch": 0} == pytest.approx(expected | {"epoch": 0}, rel=1e-4, abs=1e-5)
    # 7 pairs over 2 ranks: the copy that evens them out counts nothing
    for name in METRICS:
        assert two["metrics"][f"eval_{name}"] == pytest.approx(
            one_process["metrics"][f"eval_{name}"], rel=1e-4, abs=1e-5
        )
