"""Quarantined rows: quarantine/SPLIT.jsonl, written and read."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, TextIO

from pydantic import Field, ValidationError

from dpo_data.errors import PreparedError, reading
from dpo_data.prepared.manifest import ManifestModel

_FOLDER = "quarantine"


class QuarantinedRow(ManifestModel):
    """A raw row that was not kept, and why."""

    file: str
    line: Annotated[int, Field(ge=1, description="Physical line of a text file, or row number of a table.")]
    code: str
    field: str
    message: str
    hint: str
    raw: Annotated[str, Field(description="The row as it is in the file; a table's row as JSON.")]


class QuarantineWriter:
    """Appends rows to the quarantine files of a folder; splits without rows get no file.

    Attributes:
        rows: number of rows written by split.
    """

    def __init__(self, folder: Path) -> None:
        self.rows: Counter[str] = Counter()
        self._folder = folder / _FOLDER
        self._files: dict[str, TextIO] = {}
        self._open_files = ExitStack()

    def write(self, split: str, rows: Iterable[QuarantinedRow]) -> None:
        """Append rows of a split."""
        for row in rows:
            self._file(split).write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")
            self.rows[split] += 1

    def close(self) -> None:
        """Close the files."""
        self._open_files.close()

    def _file(self, split: str) -> TextIO:
        if split not in self._files:
            self._folder.mkdir(exist_ok=True)
            file = (self._folder / f"{split}.jsonl").open("w", encoding="utf-8")
            self._files[split] = self._open_files.enter_context(file)
        return self._files[split]


def read_quarantine(folder: Path, names: Iterable[str]) -> Iterator[QuarantinedRow]:
    """Yield the quarantined rows of a prepared folder.

    Args:
        folder: the folder.
        names: files of the folder; those that are not quarantine files are skipped.

    Raises: InputError: a file cannot be read.
        PreparedError: a line is not a quarantined row.
    """
    for name in names:
        if not name.startswith(f"{_FOLDER}/"):
            continue
        path = folder / name
        with reading(path), path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = QuarantinedRow.model_validate_json(line)
                except ValidationError as error:
                    raise PreparedError(
                        f"{path}:{number}: is not a quarantined row.\n  The file was changed: convert again."
                    ) from error
                yield row
