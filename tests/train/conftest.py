"""Toys that a test can hold in the hand: a byte-level tokenizer and a two-layer Llama, both made in process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dpo_data import convert
from dpo_train import DPOConfig

VOCAB_SIZE = 258


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    return make_tiny_tokenizer()


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, then <eos> (256) and <pad> (257)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture
def tiny_model() -> LlamaForCausalLM:
    return make_tiny_model()


def make_tiny_model(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,  # large enough that log-probabilities differ visibly
        eos_token_id=256,
        pad_token_id=257,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def make_pairs(count: int, seed: int = 0) -> datasets.Dataset:
    """Token ids of mixed lengths; chosen responses hold ids 10 to 14, rejected ones 20 to 24: a preference to learn."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    rows: dict[str, list[Any]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": [], "origin": []}
    for index in range(count):
        rows["prompt_ids"].append([draw(30, 60) for _ in range(draw(1, 8))])
        rows["chosen_ids"].append([*(draw(10, 15) for _ in range(draw(1, 6))), 256])
        rows["rejected_ids"].append([*(draw(20, 25) for _ in range(draw(1, 6))), 256])
        rows["origin"].append(f"toy.jsonl:{index + 1}")
    ids = datasets.List(datasets.Value("int32"))
    features = datasets.Features(prompt_ids=ids, chosen_ids=ids, rejected_ids=ids, origin=datasets.Value("string"))
    return datasets.Dataset.from_dict(rows, features=features)


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
    rows = [
        {"prompt": f"Question {index}?", "chosen": f"Gladly {index}.", "rejected": f"No {index}!"}
        for index in range(40)
    ]
    path = tmp_path_factory.mktemp("raw") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
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
