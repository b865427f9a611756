"""Records of single pairs that a step left out or changed: left_out.jsonl and changes.jsonl. Neither has texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO, TypeVar

from pydantic import Field, ValidationError

from dpo_data.errors import PreparedError, reading
from dpo_data.prepared.manifest import ManifestModel

LEFT_OUT = "left_out.jsonl"
CHANGES = "changes.jsonl"


class LeftOutPair(ManifestModel):
    """A pair of a parent that is not in the folder, and why."""

    id: str
    dataset: Annotated[str | None, Field(description="The part of the mix that it comes from; null: not mixed.")] = None
    origin: str
    reason: str
    evidence: Annotated[str | None, Field(description="What the reason rests on: a field and file:row.")] = None


class ChangedPair(ManifestModel):
    """A pair whose content a step changed; ids are hashes of the content, so that the pair has another one."""

    old_id: str
    new_id: str
    action: Annotated[str, Field(description="flip, edit, redact or form.")]
    by: str


Line = TypeVar("Line", LeftOutPair, ChangedPair)


class LineWriter:
    """Appends lines to a file of a folder; without lines there is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def write(self, line: ManifestModel) -> None:
        """Append a line."""
        if self._file is None:
            self._file = self._path.open("w", encoding="utf-8")
        self._file.write(line.model_dump_json(exclude_none=True) + "\n")

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()


def read_left_out(folder: Path) -> Iterator[LeftOutPair]:
    """Yield the pairs that a step left out of its folder; none if there is no such file."""
    return _read(folder / LEFT_OUT, LeftOutPair)


def read_changes(folder: Path) -> Iterator[ChangedPair]:
    """Yield the pairs of a folder that its step changed; none if there is no such file."""
    return _read(folder / CHANGES, ChangedPair)


def _read(path: Path, model: type[Line]) -> Iterator[Line]:
    """Yield the lines of a file.

    Raises: InputError: it cannot be read. PreparedError: a line was damaged.
    """
    if not path.exists():
        return
    with reading(path), path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield model.model_validate_json(line)
            except ValidationError as error:
                raise PreparedError(f"{path}:{number}: is damaged.\n  Run the step again with --overwrite.") from error
