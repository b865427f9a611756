"""Fixtures of the training tests."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import ranks_worker
import torch
from ranks_worker import TwoRanks
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dpo_data import convert
from dpo_train import DPOConfig


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def two_ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoRanks | None]:
    """Started where test_ranks.py will ask for them, and beside the tests before it: most of their time is imports."""
    if all(item.path.name != "test_ranks.py" for item in request.session.items):
        yield None
        return
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
        ) as running,
    ):
        yield TwoRanks(folder, running, folder / "errors")
        running.terminate()  # where nobody waited for it; it ends its ranks


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return make_tiny_tokenizer()


@pytest.fixture
def tiny_model() -> LlamaForCausalLM:
    return make_tiny_model()


@pytest.fixture
def pairs() -> datasets.Dataset:
    return make_pairs(12)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and its tokenizer, saved as transformers saves them."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model().save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def raw_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pairs of text: the chosen response is polite."""
    path = tmp_path_factory.mktemp("raw") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in make_text_pairs(40)), encoding="utf-8")
    return path


@pytest.fixture
def prepared(raw_pairs: Path, tmp_path: Path) -> Path:
    """These pairs as a prepared folder with a train and a test split, without token caches."""
    folder = tmp_path / "prepared"
    convert("pairs", [raw_pairs], output=folder, test_fraction=0.25)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DPOConfig]:
    """Training arguments for a short run on the CPU."""

    def make(**options: Any) -> DPOConfig:
        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": 3,
            "logging_steps": 1,
            "learning_rate": 1e-3,
            "save_strategy": "no",
            "per_device_train_batch_size": 4,
        }
        return DPOConfig(**defaults | options)

    return make
