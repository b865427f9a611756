"""dpo-train in this process."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner, Result

from dpo_train.cli import app

#: Options of a run of seconds.
QUICK = ("--use-cpu", "--max-steps", "6", "--batch-size", "8", "--learning-rate", "1e-3", "--logging-steps", "2")


class Trained(NamedTuple):
    """A finished run, which tests only read.

    Attributes:
        folder: of the run.
        data: the prepared folder.
        result: exit code and what was printed.
    """

    folder: Path
    data: Path
    result: Result


def dpo_train(*words: Any) -> Result:
    """Run the command line."""
    return CliRunner().invoke(app, [str(word) for word in words])


def records(run: Path) -> list[dict[str, Any]]:
    """Return the metrics of a run."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
