"""A working directory for commands."""

from collections.abc import Callable
from pathlib import Path

import pytest
from data_cli import BAD, ROWS


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_rows: Callable[..., Path]) -> Path:
    """A working directory with pairs.jsonl, whose rows are all good, and bad.jsonl, of which every fourth is not."""
    folder = tmp_path / "work"
    write_rows(folder / "pairs.jsonl", ROWS)
    write_rows(folder / "bad.jsonl", [*ROWS, BAD])
    monkeypatch.chdir(folder)
    return folder
