"""A raw file of one pair."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conversions import pair


@pytest.fixture
def raw(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    """Return a raw file of one pair."""
    return write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])
