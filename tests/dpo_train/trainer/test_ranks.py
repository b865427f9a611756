"""Training in several processes gives the results of one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks_worker
import torch
from toys import make_tiny_model
from transformers import AutoModelForCausalLM

from dpo_train.trainer.metrics import METRICS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of all cases, in two processes and in one.

    Costs about 20 s, most of it for the imports of the two processes. They run all cases, and at the same time as this
    process, so that this is paid once.
    """
    folder = tmp_path_factory.mktemp("ranks")
    for seed, name in enumerate(("policy", "reference")):
        make_tiny_model(seed).save_pretrained(folder / name)
    worker = Path(ranks_worker.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{worker.parents[2]}:{worker.parent}"}
    with (
        (folder / "errors").open("wb") as errors,
        subprocess.Popen(
            [*command, str(worker), str(folder)], env=env, stdout=subprocess.DEVNULL, stderr=errors
        ) as two_ranks,
    ):
        try:
            for case in {ranks_worker.in_one_process(case) for case in ranks_worker.CASES}:
                ranks_worker.train(folder, folder / name_of(case), case)
            code = two_ranks.wait(240)
        finally:
            two_ranks.terminate()
    assert code == 0, (folder / "errors").read_text()[-3000:]
    return folder


def name_of(case: ranks_worker.Case) -> str:
    return (
        f"one-{case.path}-{case.own_reference}-{case.streamed}-{'-'.join(case.loss_type)}-{case.weighted}-{case.synced}"
    )


def results_in(output: Path) -> dict[str, Any]:
    results: dict[str, Any] = torch.load(output / "results.pt", weights_only=False)
    return results | {"weights": AutoModelForCausalLM.from_pretrained(output).state_dict()}


@pytest.mark.parametrize("number", range(len(ranks_worker.CASES)))
def test_two_ranks_give_the_weights_logs_and_evaluation_of_one(folder: Path, number: int) -> None:
    """Steps have 8, 8 and 3 pairs; in the last one, with micro-batches of 1, a rank has no pair in its second turn."""
    case = ranks_worker.CASES[number]
    two, one = results_in(folder / str(number)), results_in(folder / name_of(ranks_worker.in_one_process(case)))
    assert two["sharded"] == case.sharded
    torch.testing.assert_close(two["weights"], one["weights"], rtol=1e-4, atol=1e-5)
    logs = [[record for record in run["log"] if "loss" in record] for run in (two, one)]
    assert [record["step"] for record in logs[0]] == [1, 2, 3, 4, 5]
    for record, expected in zip(*logs, strict=True):
        # epochs are counted in micro-batches
        assert record | {"epoch": 0} == pytest.approx(expected | {"epoch": 0}, rel=1e-4, abs=1e-5)
    # The history has the pairs of both ranks.
    assert two["pairs"].keys() == one["pairs"].keys()
    for pair, values in two["pairs"].items():
        assert values == pytest.approx(one["pairs"][pair], rel=1e-3, abs=1e-4)
    # Seven pairs on two ranks are evened out with a copy, which does not count.
    for name in METRICS:
        assert two["metrics"][f"eval_{name}"] == pytest.approx(one["metrics"][f"eval_{name}"], rel=1e-4, abs=1e-5)
