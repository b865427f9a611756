"""Convert one chunk of raw rows to Arrow batches of pairs, quarantined rows, and counts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from dpo_data.checks import Finding, RowCheck, run_row_checks
from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import CodeCounts
from dpo_data.checks.personal_data import redact, redact_pair
from dpo_data.checks.row_keys import row_keys
from dpo_data.dialogue import in_form as responses_in_form
from dpo_data.errors import RowError
from dpo_data.options import SPLITS, Form
from dpo_data.pairing import DEFAULT_POLICY, Match, PairingPolicy, make_pairs
from dpo_data.prepared.columns import messages_column, scores_column, text_column
from dpo_data.prepared.quarantine import QuarantinedRow
from dpo_data.prepared.schema import pair_schema
from dpo_data.readers.grouping import groups
from dpo_data.readers.rows import Chunk, RawRow
from dpo_data.records import (
    FIELDS,
    ConversationalPair,
    PairKeys,
    PreferencePair,
    ScoredResponses,
    TextPair,
    content_keys,
    encoded_fields,
)
from dpo_data.sources import load_source
from dpo_data.sources.fields import as_row_error
from dpo_data.sources.source import AdaptedGroup, Source, SourceOptions

EncodedFields = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class ConversionJob:
    """All that a raw row needs to become pairs; travels to other processes."""

    source: str
    options: SourceOptions
    checks: tuple[RowCheck, ...]
    policy: PairingPolicy = DEFAULT_POLICY
    test_fraction: float = 0.0
    redact: bool = False


@dataclass
class ConvertedChunk:
    """What became of one chunk; rows_read = rows_paired + quarantined rows + the sum of left_out."""

    file: str
    split: str
    rows_read: int = 0
    rows_paired: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    pairs_left_out: Counter[str] = field(default_factory=Counter)
    unused_columns: Counter[str] = field(default_factory=Counter)
    batches: dict[str, pa.RecordBatch] = field(default_factory=dict)
    keys: dict[str, RowKeys] = field(default_factory=dict)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    warned: CodeCounts = field(default_factory=CodeCounts)
    redacted: Counter[str] = field(default_factory=Counter)


def _schema(source: Source, form: Form) -> pa.Schema:
    return pair_schema(form, scores=source.has_scores, tools=source.has_tools)


def convert_chunk(chunk: Chunk, job: ConversionJob) -> ConvertedChunk:
    """Turn the raw rows of one chunk into pairs, quarantined rows and rows left out; pure."""
    source = load_source(job.source)
    converted = ConvertedChunk(chunk.file, chunk.split)
    columns: dict[str, PairBatchBuilder] = {}
    shapes = Counter[tuple[str, ...]]()
    for rows in groups(chunk.rows(), source.group_key):
        for raw in rows:
            if isinstance(raw.value, dict):
                shapes[tuple(raw.value)] += 1
        outcome = _adapt(rows, source, job)
        paired: set[int] = set()
        for pair, places in outcome.pairs:
            origin = f"{chunk.file}:{rows[places[0]].line}"
            redacted = None
            if job.redact:
                pair, redacted = redact_pair(pair)
            try:
                fields, keys, warnings = _checked(pair, job.checks)
            except RowError as error:
                outcome.fail(places, error)
                continue
            if redacted:
                converted.redacted.update(redacted)
            for check, finding in warnings:
                converted.warned.add(check.code, [f"{origin}: {finding.message}"])
            paired.update(places)
            split = _split_by_prompt(keys, job.test_fraction) if job.test_fraction else chunk.split
            if split not in columns:
                columns[split] = PairBatchBuilder(source.name)
            columns[split].add(pair, fields, keys, origin)
        converted.rows_read += len(rows)
        converted.rows_paired += len(paired)
        if outcome.left_out:
            converted.pairs_left_out.update(outcome.left_out)
        if outcome.failed:
            converted.pairs_left_out.update(code for places, code in outcome.failed if paired.intersection(places))
        if len(paired) == len(rows):
            continue
        for place, raw in enumerate(rows):
            if place in paired:
                continue
            if place in outcome.errors:
                converted.quarantined.append(_quarantined(chunk.file, raw, outcome.errors[place], job.redact))
            else:
                converted.left_out[outcome.row_reasons.get(place, "not_paired")] += 1
    reads = source.reads(job.options.mapping)
    for shape, count in shapes.items():
        converted.unused_columns.update({column: count for column in shape if column not in reads})
    schema = _schema(source, job.options.form)
    for split, kept in columns.items():
        converted.batches[split] = kept.batch(schema)
        converted.keys[split] = row_keys(kept.keys, SPLITS.index(split))
    return converted


@dataclass(slots=True)
class GroupResult:
    """What the rows of one group came to, before the checks; places are positions in the group.

    Attributes:
        pairs: each with the places that chosen and rejected come from.
        errors: place -> why that row cannot be in a pair.
        failed: places of each pair that a check refused, and its code.
        left_out: reason -> possible pairs, or responses, that are in no pair.
        row_reasons: place -> why nothing came of that row.
    """

    pairs: list[tuple[PreferencePair, tuple[int, int]]] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)
    failed: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)
    row_reasons: dict[int, str] = field(default_factory=dict)

    def fail(self, places: tuple[int, int], error: RowError) -> None:
        """Blame the row that an error is about; the other one is left out beside it."""
        self.failed.append((places, error.code))
        chosen, rejected = places
        for place in {"chosen": [chosen], "rejected": [rejected]}.get(error.field, places):
            self.errors.setdefault(place, error)
        for place in places:
            self.row_reasons.setdefault(place, error.code)


def _adapt(rows: Sequence[RawRow], source: Source, job: ConversionJob) -> GroupResult:
    """The pairs of rows that belong together, and what is wrong with the others."""
    first = rows[0].value
    if isinstance(first, RowError):  # an unreadable row is in no group but its own
        return GroupResult(errors={0: first})
    try:
        if source.adapt_group is not None:
            values = [raw.value for raw in rows if isinstance(raw.value, dict)]
            return _paired(source.adapt_group(values, job.options), source, job)
        adapted = source.adapt(first, job.options)
        if isinstance(adapted, ScoredResponses):
            return _paired(AdaptedGroup([adapted]), source, job)
        return GroupResult(pairs=[(adapted, (0, 0))])
    except RowError as row_error:
        return GroupResult(errors=dict.fromkeys(range(len(rows)), row_error))
    except ValidationError as invalid:
        return GroupResult(errors=dict.fromkeys(range(len(rows)), as_row_error(invalid)))


def _paired(group: AdaptedGroup, source: Source, job: ConversionJob) -> GroupResult:
    """The pairs that the policy makes of scored responses."""
    form = job.options.form
    outcome = GroupResult(errors=dict(group.errors), row_reasons=dict(group.left_out))
    in_form = []
    for responses in group.responses:
        try:
            in_form.append(responses_in_form(responses, form))
        except RowError as error:
            outcome.errors.update({response.row: error for response in responses.responses})
    try:
        matches = make_pairs(in_form, job.policy)
    except UnicodeEncodeError as error:
        raise _no_character(error) from None
    outcome.left_out = matches.left_out
    outcome.row_reasons |= matches.row_reasons
    for match in matches.kept:
        try:
            outcome.pairs.append((_pair(match, scores=source.has_scores), match.rows))
        except ValidationError as error:
            outcome.fail(match.rows, as_row_error(error))
    return outcome


def _pair(match: Match, *, scores: bool) -> PreferencePair:
    values: dict[str, Any] = {
        "prompt": match.group.prompt,
        "chosen": match.chosen.content,
        "rejected": match.rejected.content,
    }
    if scores:
        values |= {
            "chosen_score": match.chosen.worth,
            "rejected_score": match.rejected.worth,
            "margin": match.margin,
        }
    if isinstance(match.group.prompt, str):
        return TextPair(**values)
    return ConversationalPair(**values, tools=match.group.tools)


def _checked(
    pair: PreferencePair, checks: Iterable[RowCheck]
) -> tuple[EncodedFields, PairKeys, list[tuple[RowCheck, Finding]]]:
    """The encoded fields of a pair, their keys, and what the checks warn about.

    Raises: RowError: a text that cannot be stored, or what a check forbids.
    """
    try:
        fields = encoded_fields(pair)
    except UnicodeEncodeError as error:
        raise _no_character(error) from None
    findings = run_row_checks(pair, checks)
    for check, finding in findings:
        if check.severity == "error":
            raise RowError(check.code, finding.field, finding.message, check.hint)
    return fields, content_keys(*fields), findings


def _no_character(error: UnicodeEncodeError) -> RowError:
    message = f"a text holds {error.object[error.start]!r}, which is no character."
    return RowError("invalid_unicode", "", message)


def _quarantined(file: str, raw: RawRow, error: RowError, redacting: bool) -> QuarantinedRow:
    def clean(text: str) -> str:
        text = text.encode("utf-8", "backslashreplace").decode()
        return redact(text)[0] if redacting else text

    return QuarantinedRow(
        file=file,
        line=raw.line,
        code=error.code,
        field=clean(error.field),
        message=clean(error.message),
        hint=error.hint,
        raw=clean(raw.raw()),
    )


def _split_by_prompt(keys: PairKeys, test_fraction: float) -> str:
    return "test" if int.from_bytes(keys.prompt[:8]) < test_fraction * 2**64 else "train"


class PairBatchBuilder:
    """Kept rows of one split, column by column."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.keys: list[PairKeys] = []
        self.pairs: list[PreferencePair] = []
        self.fields: list[EncodedFields] = []
        self.origins: list[str] = []

    def add(self, pair: PreferencePair, fields: EncodedFields, keys: PairKeys, origin: str) -> None:
        """Append one pair."""
        self.pairs.append(pair)
        self.fields.append(fields)
        self.keys.append(keys)
        self.origins.append(origin)

    def batch(self, schema: pa.Schema) -> pa.RecordBatch:
        """Return the pairs as one Arrow batch."""
        columns: dict[str, pa.Array] = {
            "source": text_column([self.source.encode()] * len(self.pairs)),
            "origin": text_column([origin.encode() for origin in self.origins]),
            "id": text_column([keys.pair.hex().encode() for keys in self.keys]),
            "prompt_key": text_column([keys.prompt.hex().encode() for keys in self.keys]),
        }
        for position, name in enumerate(FIELDS):
            if schema.field(name).type == pa.string():
                # Encoded already, for the keys.
                columns[name] = text_column([fields[position] for fields in self.fields])
            else:
                columns[name] = messages_column([getattr(pair, name) for pair in self.pairs], schema.field(name).type)
        if "tools" in schema.names:
            tools = [getattr(pair, "tools", None) for pair in self.pairs]
            columns["tools"] = text_column([None if text is None else text.encode() for text in tools])
        for name in set(schema.names) - set(columns):  # scores
            columns[name] = scores_column([getattr(pair, name) for pair in self.pairs])
        return pa.record_batch([columns[name] for name in schema.names], schema=schema)
