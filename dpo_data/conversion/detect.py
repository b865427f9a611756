"""Source of a raw file, detected from its first rows, and the command that converts it."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dpo_data.conversion.chunks import convert_chunk, grouped_chunks
from dpo_data.conversion.plan import make_plan
from dpo_data.errors import InputError, as_flag
from dpo_data.options import Form
from dpo_data.readers.inputs import find_inputs
from dpo_data.readers.rows import Chunk
from dpo_data.records import FIELDS
from dpo_data.sources import load_source, matching_sources
from dpo_data.sources.source import Source, SourceOptions

SNIFFED_ROWS = 200
SHOWN_CHARACTERS = 200
#: Names that columns of other tables often have, the most likely first.
USUAL_NAMES = {
    "prompt": ("prompt", "question", "instruction", "query", "input", "context", "messages"),
    "chosen": ("chosen", "preferred", "better", "good", "accepted", "winner", "positive", "response_chosen"),
    "rejected": ("rejected", "dispreferred", "worse", "bad", "loser", "negative", "response_rejected"),
    "responses": ("responses", "answers", "completions", "candidates", "generations", "outputs"),
    "scores": ("scores", "score", "ratings", "rating", "rewards"),
    "ranks": ("ranks", "rank", "ranking"),
}


class DetectedCounts(BaseModel):
    """Balance of the first rows."""

    rows_read: int = 0
    rows_paired: int = 0
    pairs: int = 0
    quarantined: int = 0
    left_out: int = 0
    reasons: Annotated[dict[str, int], Field(description="Reason to the number of rows that gave no pair.")] = {}


class DetectedSource(BaseModel):
    """Source of a file, as far as its first rows show."""

    file: str
    columns: list[str]
    source: str | None
    others: Annotated[list[str], Field(description="Other sources that match.")] = []
    direction: str = ""
    counts: DetectedCounts = DetectedCounts()
    example: Annotated[dict[str, str], Field(description="The first pair, shortened.")] = {}
    command: Annotated[str, Field(description="The command to run; complete the words in capitals.")]
    complete: Annotated[bool, Field(description="True if the command can run as it is.")]


def sniff(
    path: str | Path, *, input_format: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> DetectedSource:
    """Return the source of a file, and what `convert` would do with its first rows.

    Args:
        path: a file, folder, glob or URL; the first file of several is read.
        input_format: format of the file; when None, it is inferred from its name and content.
        encoding: of a text file; when None, UTF-8, or what a byte order mark says.
        delimiter: of a CSV or TSV file; when None, it is inferred from the header.

    Raises: InputError: the file, or every row of it, cannot be read.
    """
    path = str(path)
    how = {"input_format": input_format, "encoding": encoding, "delimiter": delimiter}
    start = _first_rows(path, how)
    first = next((row.value for row in start.rows() if isinstance(row.value, dict)), None) if start else None
    if start is None or first is None:
        raise InputError(f"{path}: none of its rows can be read.")
    columns = list(first)
    matching = matching_sources(first)
    if not matching:
        command, complete = _command_to_complete(path, how, first)
        return DetectedSource(file=path, columns=columns, source=None, command=command, complete=complete)
    source = load_source(matching[0])
    form = _form(source, first)
    counts, example = _try(start, source, form)
    words = ["dpo-data", "convert", source.name, *_input_words(path, how)]
    words += ["--axis", source.axes[0]] if source.axes else []
    words += ["--form", form] if form != "text" else []
    return DetectedSource(
        file=path,
        columns=columns,
        source=source.name,
        others=matching[1:],
        direction=source.direction,
        counts=counts,
        example=example,
        command=f"{shlex.join(words)} --output prepared/",
        complete=True,
    )


def _first_rows(path: str, how: Mapping[str, Any]) -> Chunk | None:
    file = find_inputs([path], **how)[0]
    chunk = next(file.chunks(), None)
    return chunk and chunk.with_rows(list(islice(chunk.rows(), SNIFFED_ROWS)))


def _form(source: Source, row: dict[str, Any]) -> Form:
    """Return the form that keeps all of a row: text, unless the source refuses it or has tools."""
    options = SourceOptions("text", axis=next(iter(source.axes), None))
    return "conversational" if source.has_tools or source.check_file(row, options) else "text"


def _try(start: Chunk, source: Source, form: Form) -> tuple[DetectedCounts, dict[str, str]]:
    """Convert the rows of a chunk, and return their balance and the first pair."""
    job = make_plan(source.name, start.file, form=form, axis=next(iter(source.axes), None)).job
    chunks = [convert_chunk(chunk, job) for chunk in grouped_chunks(iter([start]), source)]
    reasons = Counter[str]()
    for chunk in chunks:
        reasons.update(row.code for row in chunk.quarantined)
        reasons.update(chunk.left_out)
    batches = [batch for chunk in chunks for batch in chunk.batches.values()]
    example = {}
    for row in islice((row for batch in batches for row in batch.slice(0, 1).to_pylist()), 1):
        example = {name: _shortened(row[name]) for name in ("origin", *FIELDS)}
    counts = DetectedCounts(
        rows_read=sum(chunk.rows_read for chunk in chunks),
        rows_paired=sum(chunk.rows_paired for chunk in chunks),
        pairs=sum(batch.num_rows for batch in batches),
        quarantined=sum(len(chunk.quarantined) for chunk in chunks),
        left_out=sum(chunk.left_out.total() for chunk in chunks),
        reasons=dict(sorted(reasons.items())),
    )
    return counts, example


def _shortened(value: str | Sequence[dict[str, str]]) -> str:
    text = value if isinstance(value, str) else "\n".join(f"{m['role']}: {m['content']}" for m in value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _input_words(path: str, how: Mapping[str, Any]) -> list[str]:
    """Return the words of a command that name an input and how it is read."""
    options = [[as_flag(name), value] for name, value in how.items() if value is not None]
    return ["--input", path, *chain.from_iterable(options)]


def _command_to_complete(path: str, how: Mapping[str, Any], row: dict[str, Any]) -> tuple[str, bool]:
    """Return a command for `pairs` or `ranked` with the columns that have usual names, and True if none is missing."""
    ranked = any(isinstance(row.get(name), list) for name in USUAL_NAMES["responses"])
    lower = {name.lower(): name for name in row}
    judgment = "ranks" if any(name in lower for name in USUAL_NAMES["ranks"]) else "scores"
    source, fields = ("ranked", ("prompt", "responses", judgment)) if ranked else ("pairs", FIELDS)
    guesses = {field: next((lower[name] for name in USUAL_NAMES[field] if name in lower), None) for field in fields}
    words = ["dpo-data", "convert", source, *_input_words(path, how)]
    for field, column in guesses.items():
        if column != field:
            words += ["--map", f"{field}={column or f'{field.upper()}_COLUMN'}"]
    return f"{shlex.join(words)} --output prepared/", None not in guesses.values()
