"""Fixtures of the training tests."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from dpo_data import convert
from dpo_train import DPOConfig


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
    """A folder with the tiny model and its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_model().save_pretrained(folder)
    make_tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def raw_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 text pairs, in which the chosen response is polite."""
    path = tmp_path_factory.mktemp("raw") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in make_text_pairs(40)), encoding="utf-8")
    return path


@pytest.fixture
def prepared(raw_pairs: Path, tmp_path: Path) -> Path:
    """A prepared folder of these pairs with a train and a test split, without token caches."""
    folder = tmp_path / "prepared"
    convert("pairs", [raw_pairs], output=folder, test_fraction=0.25)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DPOConfig]:
    """Return training arguments for a short run on the CPU."""

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
