"""dpo-data as tests run it, and rows for it."""

import subprocess
import sys
from typing import Any, NamedTuple

ROWS = [
    {"prompt": "What is this?", "chosen": " a bow", "rejected": " no"},
    {"prompt": "Hello there", "chosen": " hi, what?", "rejected": " go"},
    {"prompt": "How are you?", "chosen": " fine", "rejected": " bad day"},
]
BAD = {"prompt": "Hi", "chosen": "", "rejected": " no"}
DPO_DATA = [sys.executable, "-m", "dpo_data"]


class Ran(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


def lines(text: str) -> list[str]:
    """Return the lines of a text without trailing blanks."""
    return [line.rstrip() for line in text.splitlines()]


def process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*DPO_DATA, *map(str, words)], capture_output=True, text=True, check=False, timeout=120, **options
    )
