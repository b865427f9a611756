"""Small test objects made in process: a byte-level tokenizer, a two-layer Llama, and pairs."""

from typing import Any

import datasets
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB_SIZE = 258


def make_tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte, <eos> (256) and <pad> (257)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")


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
    """Return token ids of mixed lengths, with ids 10 to 14 in chosen and 20 to 24 in rejected responses."""
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


def make_text_pairs(count: int) -> datasets.Dataset:
    """Return texts of mixed lengths, in which the chosen response is polite."""
    rows = [
        {
            "prompt": f"Question {index}{'?' * (index % 7)}",
            "chosen": f" Gladly {'indeed ' * (index % 3)}{index}.",
            "rejected": f" No {index}{'!' * (index % 5)}",
        }
        for index in range(count)
    ]
    return datasets.Dataset.from_list(rows)
