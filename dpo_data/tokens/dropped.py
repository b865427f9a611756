"""Pairs that a token cache leaves out: dropped.jsonl, written and read."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Self, TextIO

from pydantic import Field, ValidationError

from dpo_data.errors import PreparedError, reading
from dpo_data.prepared.manifest import ManifestModel

DROPPED = "dropped.jsonl"


class DroppedPair(ManifestModel):
    """A pair that is not in a token cache, with its lengths before truncation."""

    origin: str
    id: str
    reason: str
    prompt_tokens: int
    chosen_tokens: int
    rejected_tokens: int
    message: Annotated[str | None, Field(description="The chat template's own message, if it refuses the pair.")] = None


class DroppedRow(DroppedPair):
    """A line of dropped.jsonl."""

    split: str
    shard: str


class DroppedWriter:
    """Writes the dropped pairs of a token cache; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DROPPED

    def __enter__(self) -> Self:
        self._file: TextIO = self._path.open("w", encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, split: str, shard: str, pairs: Iterable[DroppedPair]) -> None:
        """Append the pairs that were dropped from a shard, given by its key."""
        for pair in pairs:
            self._file.write(json.dumps({"split": split, "shard": shard, **pair.model_dump(exclude_none=True)}) + "\n")


def read_dropped(folder: Path) -> Iterator[DroppedRow]:
    """Yield the dropped pairs of a token cache.

    Raises: InputError: the file cannot be read.
        PreparedError: a line is not a dropped pair.
    """
    path = folder / DROPPED
    with reading(path), path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = DroppedRow.model_validate_json(line)
            except ValidationError as error:
                raise PreparedError(
                    f"{path}:{number}: is not a dropped pair.\n  The file was changed: delete the folder and tokenize "
                    "again."
                ) from error
            yield row
