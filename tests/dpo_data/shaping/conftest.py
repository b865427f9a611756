"""Prepared folders of a few pairs, and their rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert


@pytest.fixture
def make_folder(tmp_path: Path, write_rows: Callable[..., Path]) -> Callable[..., Path]:
    """A function that converts rows of train and test to a prepared folder."""

    def make(
        name: str, train: Sequence[Mapping[str, Any]] = (), test: Sequence[Mapping[str, Any]] = (), **options: Any
    ) -> Path:
        raw = tmp_path / "raw" / name
        for split, rows in (("train", train), ("test", test)):
            if rows:
                write_rows(raw / f"{split}.jsonl", rows)
        convert("pairs", [raw], output=tmp_path / name, **{"form": "text", "overwrite": True} | options)
        return tmp_path / name

    return make


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of 3 rows, so that a few rows are many ranges."""
    monkeypatch.setattr("dpo_data.shaping.rows.RANGE_ROWS", 3)
    monkeypatch.setattr("dpo_data.shaping.step.RANGE_ROWS", 3)
