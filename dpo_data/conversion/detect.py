"""Which source a raw file is of, judged by its first rows; or the command that would read it, to be filled in."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dpo_data.conversion.adapt import convert_chunk
from dpo_data.conversion.chunks import grouped_chunks
from dpo_data.conversion.plan import make_job
from dpo_data.errors import InputError
from dpo_data.options import Form
from dpo_data.readers.inputs import find_inputs
from dpo_data.readers.rows import Chunk
from dpo_data.records import FIELDS
from dpo_data.sources import load_source, matching_sources

SNIFFED_ROWS = 200
SHOWN_CHARACTERS = 200
#: Names that columns of other tables often have, the likeliest first.
USUAL_NAMES = {
    "prompt": ("prompt", "question", "instruction", "query", "input", "context", "messages"),
    "chosen": ("chosen", "preferred", "better", "good", "accepted", "winner", "positive", "response_chosen"),
    "rejected": ("rejected", "dispreferred", "worse", "bad", "loser", "negative", "response_rejected"),
    "responses": ("responses", "answers", "completions", "candidates", "generations", "outputs"),
    "scores": ("scores", "score", "ratings", "rating", "rewards"),
    "ranks": ("ranks", "rank", "ranking"),
}


class DetectedCounts(BaseModel):
    """What became of the first rows."""

    rows_read: int
    rows_paired: int
    pairs: int
    quarantined: int
    left_out: int
    reasons: Annotated[dict[str, int], Field(description="Why rows gave no pair, to how many.")]


class DetectedSource(BaseModel):
    """What a file is, as far as its first rows tell."""

    file: str
    columns: list[str]
    source: str | None
    others: Annotated[list[str], Field(description="Sources that would fit too.")]
    direction: str
    counts: DetectedCounts
    example: Annotated[dict[str, str], Field(description="The first pair, shortened.")]
    command: Annotated[str, Field(description="What to run; words in capitals are to be filled in.")]
    complete: Annotated[bool, Field(description="Whether the command can run as it is.")]


def sniff(path: str, *, input_format: str | None = None) -> DetectedSource:
    """The source that a file is of, and what `convert` would do with its first rows.

    Args:
        path: a file, folder, glob or URL; the first file of several is read.
        input_format: of the file, where its name does not tell.

    Raises: InputError: the file cannot be read, or has no row that can.
    """
    file = find_inputs([path], input_format=input_format)[0]
    start = next((replace(chunk, max_rows=SNIFFED_ROWS) for chunk in file.chunks()), None)
    first = next((row.value for row in start.rows() if isinstance(row.value, dict)), None) if start else None
    if start is None or first is None:
        raise InputError(f"{path}: no row in it can be read.")
    fitting = matching_sources(first)
    if not fitting:
        command, complete = _stub(path, first)
        empty = DetectedCounts(rows_read=0, rows_paired=0, pairs=0, quarantined=0, left_out=0, reasons={})
        return DetectedSource(
            file=path,
            columns=list(first),
            source=None,
            others=[],
            direction="",
            counts=empty,
            example={},
            command=command,
            complete=complete,
        )
    source = load_source(fitting[0])
    form = _form(source.name, first)
    counts, example = _try(start, source.name, form)
    words = ["dpo-data", "convert", source.name, "--input", path]
    words += ["--axis", source.axes[0]] if source.axes else []
    words += ["--form", form] if form != "text" else []
    return DetectedSource(
        file=path,
        columns=list(first),
        source=source.name,
        others=fitting[1:],
        direction=source.direction,
        counts=counts,
        example=example,
        command=f"{shlex.join(words)} --output prepared/",
        complete=True,
    )


def _form(source: str, row: dict[str, Any]) -> Form:
    """The form that keeps all of a row: text, unless the source refuses it or has tools."""
    found = load_source(source)
    options = make_job(source, "text", {}, axis=next(iter(found.axes), None)).options
    return "conversational" if found.has_tools or found.check_file(row, options) else "text"


def _try(start: Chunk, name: str, form: Form) -> tuple[DetectedCounts, dict[str, str]]:
    """What became of the rows of a chunk, and the first pair."""
    source = load_source(name)
    job = make_job(name, form, {}, axis=next(iter(source.axes), None))
    chunks = [convert_chunk(chunk, job) for chunk in grouped_chunks(iter([start]), source)]
    reasons = Counter[str]()
    for chunk in chunks:
        reasons.update(row.code for row in chunk.quarantined)
        reasons.update(chunk.left_out)
    batches = [batch for chunk in chunks for batch in chunk.batches.values()]
    example = {}
    for row in islice((row for batch in batches for row in batch.slice(0, 1).to_pylist()), 1):
        example = {name: _shown(row[name]) for name in ("origin", "prompt", "chosen", "rejected")}
    counts = DetectedCounts(
        rows_read=sum(chunk.rows_read for chunk in chunks),
        rows_paired=sum(chunk.rows_paired for chunk in chunks),
        pairs=sum(batch.num_rows for batch in batches),
        quarantined=sum(len(chunk.quarantined) for chunk in chunks),
        left_out=sum(chunk.left_out.total() for chunk in chunks),
        reasons=dict(sorted(reasons.items())),
    )
    return counts, example


def _shown(value: str | Sequence[dict[str, str]]) -> str:
    text = value if isinstance(value, str) else "\n".join(f"{m['role']}: {m['content']}" for m in value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _stub(path: str, row: dict[str, Any]) -> tuple[str, bool]:
    """A command for `pairs` or `ranked` with the columns that have usual names, and whether none is missing."""
    ranked = any(isinstance(row.get(name), list) for name in USUAL_NAMES["responses"])
    lower = {name.lower(): name for name in row}
    worth = "ranks" if any(name in lower for name in USUAL_NAMES["ranks"]) else "scores"
    source, fields = ("ranked", ("prompt", "responses", worth)) if ranked else ("pairs", FIELDS)
    guesses = {field: next((lower[name] for name in USUAL_NAMES[field] if name in lower), None) for field in fields}
    words = ["dpo-data", "convert", source, "--input", path]
    for field, column in guesses.items():
        if column != field:
            words += ["--map", f"{field}={column or f'{field.upper()}_COLUMN'}"]
    return f"{shlex.join(words)} --output prepared/", None not in guesses.values()
