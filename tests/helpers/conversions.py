"""Rows to convert, conversions that are refused, and the content of prepared folders."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared
from dpo_data.errors import DataError


def pair(n: int, /, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"Question {n}?", "chosen": f" yes {n}", "rejected": " no"} | changes


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a folder but provenance.json."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "provenance.json"
    }


def kept_lines(folder: Path) -> list[str]:
    """Return the origin of each kept row, split by split."""
    prepared = open_prepared(folder)
    return [
        origin
        for split in prepared.split_names
        for batch in prepared.batches(split)
        for origin in batch.column("origin").to_pylist()
    ]


def prompts(folder: Path) -> dict[str, list[str]]:
    """Return the prompts of each split."""
    prepared = open_prepared(folder)
    return {
        split: [p for batch in prepared.batches(split) for p in batch.column("prompt").to_pylist()]
        for split in prepared.split_names
    }


def refusal(error: type[DataError], *inputs: Any, output: Path, source: str = "pairs", **options: Any) -> str:
    """Return the message of the error that a conversion ends with."""
    with pytest.raises(error) as caught:
        convert(source, inputs, output=output, **options)
    return str(caught.value)


def rows_of(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """Return the rows of a split."""
    prepared = open_prepared(folder)
    if split not in prepared.split_names:
        return []
    return [row for batch in prepared.batches(split) for row in batch.to_pylist()]
