"""Choices and defaults shared by library and command line; imports nothing heavy, so that --help is quick."""

from collections.abc import Callable
from typing import Literal, get_args

Form = Literal["text", "conversational"]
OnError = Literal["quarantine", "stop"]
TruncationMode = Literal["keep_end", "keep_start"]
OnOverlong = Literal["truncate", "drop", "fail"]
Severity = Literal["error", "warning"]
SplitName = Literal["train", "test"]
SPLITS = get_args(SplitName)
InputFormat = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
Pairing = Literal["best-worst", "best-rest", "all", "adjacent", "random"]
Tie = Literal["drop", "keep"]
Axis = Literal["better", "safer"]

DEFAULT_MAX_LENGTH = 1024
DEFAULT_MAX_INVALID = 0.05
DEFAULT_AUDIT_LENGTHS = (256, 512, 1024, 2048, 4096)

#: Called with the share of the work that is done (None if unknown) and the number of rows.
Progress = Callable[[float | None, int], None]


def silent(fraction: float | None, rows: int) -> None:
    """Do nothing; the progress callback of a caller who wants none."""
