"""Rows for token caches, and functions that read a cache."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from dpo_data.tokens.cache import TokenCache

EOS = 256


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


#: Nothing is cut at 24 tokens, EOS included.
ROWS = [
    pair("What is this?", " a bow", " no"),
    pair("Hello there", " hi, what?", " go"),
    pair("How are you?", " fine", " bad day"),
]
MESSAGES = [
    {
        "prompt": [{"role": "user", "content": "hello"}],
        "chosen": [{"role": "assistant", "content": "hi there"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
]


def rows_of(cache: TokenCache, split: str = "train") -> list[tuple[list[int], list[int], list[int]]]:
    data = cache.dataset()[split]
    return list(zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True))


def decoded(cache: TokenCache, tokenizer: PreTrainedTokenizerFast, split: str = "train") -> list[tuple[str, ...]]:
    return [tuple(tokenizer.decode(ids) for ids in row) for row in rows_of(cache, split)]


def dropped(cache: TokenCache) -> list[dict[str, object]]:
    return [json.loads(line) for line in (cache.path / "dropped.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the one that may differ from run to run."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.name != "provenance.json"}


def times(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def flip_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
