"""Source of a raw file, detected from its first rows, and the command that converts it."""

import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

from dpo_data.conversion.chunks import convert_chunk, grouped_chunks, require_source
from dpo_data.conversion.first_rows import decide, detect_form
from dpo_data.conversion.guesses import Attempt, guesses
from dpo_data.conversion.plan import make_plan
from dpo_data.errors import InputError, as_flag
from dpo_data.escapes import without_secrets
from dpo_data.options import FIRST_ROWS, Axis, Form
from dpo_data.readers.inputs import InputFile, find_inputs
from dpo_data.readers.rows import Chunk, RawRow
from dpo_data.records import FIELDS
from dpo_data.sources import SOURCES, load_source
from dpo_data.sources.fields import Row
from dpo_data.sources.source import Source, SourceOptions

SHOWN_CHARACTERS = 200
#: Chunks that are read for the first rows, which may be long.
MAX_CHUNKS = 16
#: Rows that are compared with each source.
MAX_COMPARED = 200
#: Share for a source that only all rows together match, because each row leaves out what is null in it.
MATCHING_AS_A_WHOLE = 0.01


class DetectedCounts(BaseModel):
    """Balance of the first rows."""

    rows_read: int = 0
    rows_paired: int = 0
    pairs: int = 0
    quarantined: int = 0
    left_out: int = 0
    reasons: Annotated[dict[str, int], Field(description="Reason to the number of rows that gave no pair.")] = {}


class Candidate(BaseModel):
    """A conversion that suits the first rows of a file."""

    source: Annotated[str, Field(description="Its name; the rows match it, or the columns that --map names.")]
    direction: str = ""
    counts: Annotated[DetectedCounts, Field(description="What the command does with the first rows.")] = (
        DetectedCounts()
    )
    example: Annotated[dict[str, str], Field(description="The first pair, shortened.")] = {}
    command: Annotated[str, Field(description="The command to run; complete the words in capitals.")]
    complete: Annotated[bool, Field(description="True if the command was tried, and works as it is.")]


class DetectedSource(BaseModel):
    """Source of a file, as far as its first rows show."""

    file: str
    columns: list[str]
    source: Annotated[str | None, Field(description="The source whose columns the rows have; null if there is none.")]
    others: Annotated[list[str], Field(description="Other sources that match.")] = []
    direction: str = ""
    counts: DetectedCounts = DetectedCounts()
    example: Annotated[dict[str, str], Field(description="The first pair, shortened.")] = {}
    command: Annotated[str, Field(description="The best command to run; complete the words in capitals.")]
    complete: Annotated[bool, Field(description="True if the command was tried, and works as it is.")]
    candidates: Annotated[list[Candidate], Field(description="Other conversions that suit the rows, best first.")] = []


def sniff(
    path: str | Path, *, input_format: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> DetectedSource:
    """Return the source of a file, and what `convert` would do with its first rows.

    Of a URL, neither the file nor the command has the user, the password or, on the web, the query.

    Args:
        path: a file, folder, glob or URL; the first file of several is read.
        input_format: format of the file; when None, it is inferred from its name and content.
        encoding: of a text file; when None, UTF-8, or what a byte order mark says.
        delimiter: of a CSV or TSV file; when None, it is inferred from the header.

    Raises: InputError: the file, or every row of it, cannot be read.
    """
    reading: dict[str, Any] = {"input_format": input_format, "encoding": encoding, "delimiter": delimiter}
    start = _first_rows(find_inputs([path], **reading)[0])
    rows = [row.value for row in start.rows() if isinstance(row.value, dict)] if start else []
    if start is None or not rows:
        raise InputError(f"{path}: none of its rows can be read.")
    options = ([as_flag(name), value] for name, value in reading.items() if value is not None)
    words = ["--input", without_secrets(str(path)), *chain.from_iterable(options)]
    attempts = _matching(rows)
    tried = [(attempt, _try(attempt, start, rows, words)) for attempt in attempts]
    if not any(_quality(candidate.counts) < 2 for _, candidate in tried):
        attempts = guesses(rows)
        tried += [(attempt, _try(attempt, start, rows, words)) for attempt in attempts]
    # A stable sort: equally good conversions stay in the order of the registry, datasets before general layouts.
    tried.sort(key=lambda one: _rank(*one))
    (best, candidate), *rest = tried
    matching = [one.source for one, _ in tried if one.matching]
    return DetectedSource(
        file=without_secrets(str(path)),
        columns=list(dict.fromkeys(name for row in rows for name in row)),
        source=best.source if best.matching else None,
        others=[name for name in dict.fromkeys(matching) if name != best.source],
        **candidate.model_dump(exclude={"source"}),
        candidates=[other for _, other in rest if other.counts.pairs or not candidate.complete],
    )


def _first_rows(file: InputFile) -> Chunk | None:
    """Return the first rows of a file, or of the first member of an archive."""
    chunks = list(
        islice(next((of for _, of in groupby(file.chunks(), lambda chunk: chunk.file)), iter(())), MAX_CHUNKS)
    )
    rows: list[RawRow] = list(islice((row for chunk in chunks for row in chunk.rows()), FIRST_ROWS))
    return chunks[0].with_rows(rows) if chunks else None


def _matching(rows: Sequence[Row]) -> list[Attempt]:
    """Return a conversion for each source that some row matches, in the order of the registry."""
    compared = rows[:MAX_COMPARED]
    # A row may lack what is null in it.
    whole: dict[str, object] = {}
    for row in reversed(rows):
        whole |= {name: value for name, value in row.items() if value is not None or name not in whole}
    attempts = []
    for name in SOURCES:
        source = load_source(name)
        matching = sum(source.matches(row, {}) for row in compared) / len(compared)
        if matching or source.matches(whole, {}):
            axes: list[Axis | None] = [axis for axis, column in source.judgments.items() if column in whole]
            attempts += [
                Attempt(name, axis=axis, matching=max(matching, MATCHING_AS_A_WHOLE)) for axis in axes or [None]
            ]
    return attempts


def _try(attempt: Attempt, start: Chunk, rows: Sequence[Row], input_words: list[str]) -> Candidate:
    """Return an attempt's command, and what it does with the first rows.

    Args:
        attempt: the conversion.
        start: the first rows.
        rows: those of them that can be read.
        input_words: the words of the command that name the input and how it is read.
    """
    source = load_source(attempt.source)
    form = _form(source, attempt, rows)
    words = ["dpo-data", "convert", source.name, *input_words, *attempt.words()]
    words += [] if form == "text" else ["--form", form]
    counts, example = _convert(attempt, source, form, start) if attempt.complete else (DetectedCounts(), {})
    return Candidate(
        source=source.name,
        direction=source.direction,
        counts=counts,
        example=example,
        command=f"{shlex.join(words)} --output prepared/",
        complete=attempt.complete and _quality(counts) < 2,
    )


def _form(source: Source, attempt: Attempt, rows: Sequence[Row]) -> Form:
    """Return the form that keeps all rows: conversational for sources with tools, else what `convert` would choose."""
    if source.has_tools and source.contents is None:
        return "conversational"
    reasons = [
        source.check_file(rows[0], SourceOptions(form, attempt.mapping, attempt.axis))
        for form in ("text", "conversational")
    ]
    if reasons[0] and not reasons[1]:
        return "conversational"
    return detect_form(source, rows, attempt.mapping).form


def _convert(attempt: Attempt, source: Source, form: Form, start: Chunk) -> tuple[DetectedCounts, dict[str, str]]:
    """Convert the first rows, and return their balance and the first pair."""
    mapping = {name: column for name, column in attempt.mapping.items() if name != column}
    plan = make_plan(source.name, start.file, form=form, mapping=mapping, axis=attempt.axis)
    job = decide(plan, [row.value for row in start.rows() if isinstance(row.value, dict)]).job
    try:
        require_source(start, next(start.rows()), source, job.options)
    except InputError:
        return DetectedCounts(), {}
    chunks = [convert_chunk(chunk, job) for chunk in grouped_chunks(iter([start]), source, job.options)]
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


def _quality(counts: DetectedCounts) -> int:
    """Return 0 if most rows can be read, 1 if some can, 2 if none can."""
    readable = counts.rows_read - counts.quarantined
    return 2 if not readable else 0 if 2 * readable >= counts.rows_read else 1


def _rank(attempt: Attempt, candidate: Candidate) -> tuple[bool, int, bool]:
    """Return the place of a conversion among others: those that work, those that lack the meaning of labels, others."""
    if candidate.complete:
        return False, _quality(candidate.counts), attempt.matching < 0.5
    return True, 0 if attempt.has_columns and attempt.labels else 1 if attempt.matching else 2, False


def _shortened(value: str | Sequence[dict[str, str]]) -> str:
    text = value if isinstance(value, str) else "\n".join(f"{m['role']}: {m['content']}" for m in value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
