"""Choices and defaults shared by library and command line; imports nothing heavy, so that --help is quick."""

import json
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

from dpo_data.errors import UsageError

Form = Literal["text", "conversational"]
#: A form, or auto: the one that suits the first rows.
FormChoice = Literal["auto", "text", "conversational"]
OnError = Literal["quarantine", "stop"]
TruncationMode = Literal["keep_end", "keep_start"]
TruncationUnit = Literal["token", "turn"]
#: The library that turns texts into ids; auto: the faster one where it gives the same ids.
TokenizerEngine = Literal["auto", "tokenizers", "fastokens"]
OnOverlong = Literal["truncate", "drop", "fail"]
Severity = Literal["error", "warning"]
Verify = Literal["fast", "full"]
SplitName = Literal["train", "test"]
SPLITS = get_args(SplitName)
InputFormat = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow"]
#: Format of exported files.
FileFormat = Literal["jsonl", "parquet"]
Pairing = Literal["best-worst", "best-rest", "all", "adjacent", "random"]
Tie = Literal["drop", "keep"]
Side = Literal["a", "b", "tie", "skip"]
SIDES = get_args(Side)
Axis = Literal["better", "safer"]
OnLeak = Literal["drop-train", "drop-test", "move", "refuse"]
Contradictions = Literal["keep", "drop", "margin"]

DEFAULT_MAX_LENGTH = 1024
DEFAULT_MAX_INVALID = 0.05
#: Longest row of a text file: some ten times the longest contexts of today's models, and little memory.
DEFAULT_MAX_ROW_BYTES = 100_000_000
#: Rows at the start of the first file that decide what --form auto means.
FIRST_ROWS = 1000
DEFAULT_AUDIT_LENGTHS = (256, 512, 1024, 2048, 4096)

#: Called with the share of the work that is done (None if unknown) and the number of rows.
Progress = Callable[[float | None, int], None]


def silent(fraction: float | None, rows: int) -> None:
    """Do nothing; the progress callback of a caller who wants none."""


def parse_template_arguments(words: Iterable[str]) -> dict[str, Any] | None:
    """Return the variables of a chat template from words like enable_thinking=false, or from a JSON object."""
    arguments: dict[str, Any] = {}
    for word in words:
        whole = _from_json(word)
        name, equals, value = word.partition("=")
        if isinstance(whole, dict):
            arguments |= whole
        elif name and equals:
            arguments[name] = _from_json(value)
        else:
            raise UsageError("must be NAME=VALUE, as in enable_thinking=false.", "chat_template_kwargs", word)
    return arguments or None


def parse_share(option: str, text: str) -> float:
    """Return the share that a text like 5% or 0.05 means."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UsageError("must be a share, as in 5% or 0.05.", option, text) from error


def _from_json(text: str) -> Any:
    """Return what a text is in JSON, or the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
