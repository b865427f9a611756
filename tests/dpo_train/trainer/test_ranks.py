"""Several processes that train together give what one gives."""

from pathlib import Path
from typing import Any

import pytest
import ranks_worker
import torch
from ranks_worker import TwoRanks
from transformers import AutoModelForCausalLM

from dpo_train.trainer.metrics import METRICS


@pytest.fixture(scope="module")
def folder(two_ranks: TwoRanks) -> Path:
    """Two ranks went through all cases; one process, through its own."""
    for case in {ranks_worker.alone(case) for case in ranks_worker.CASES}:
        ranks_worker.train(two_ranks.folder, two_ranks.folder / name_of(case), case)
    code = two_ranks.running.wait(240)
    assert code == 0, two_ranks.errors.read_text()[-3000:]
    return two_ranks.folder


def name_of(case: ranks_worker.Case) -> str:
    return f"one-{case.path}-{case.own_reference}"


def seen(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(output / "seen.pt", weights_only=False)
    return found | {"weights": AutoModelForCausalLM.from_pretrained(output).state_dict()}


@pytest.mark.parametrize("number", range(len(ranks_worker.CASES)))
def test_two_ranks_give_the_weights_logs_and_evaluation_of_one(folder: Path, number: int) -> None:
    """Steps of 8, 8 and 3 pairs: in the last, with micro-batches of 1, a rank has nothing to do in its second turn."""
    case = ranks_worker.CASES[number]
    two, one = seen(folder / str(number)), seen(folder / name_of(ranks_worker.alone(case)))
    assert two["sharded"] == case.sharded
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-5)
    logs = [[record for record in run["log"] if "loss" in record] for run in (two, one)]
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4, 5]
    for record, expected in zip(*logs, strict=True):
        # epochs are counted in micro-batches
        assert record | {"epoch": 0} == pytest.approx(expected | {"epoch": 0}, rel=1e-4, abs=1e-5)
    # What was measured of every pair of both ranks is at hand at the end.
    assert two["pairs"].keys() == one["pairs"].keys()
    for pair, values in two["pairs"].items():
        assert values == pytest.approx(one["pairs"][pair], rel=1e-3, abs=1e-4)
    # 7 pairs over 2 ranks: the copy that evens them out counts nothing
    for name in METRICS:
        assert two["metrics"][f"eval_{name}"] == pytest.approx(one["metrics"][f"eval_{name}"], rel=1e-4, abs=1e-5)
