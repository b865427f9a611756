"""Raw rows to pairs: the source's adapter, the pairing policy and the row checks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from dpo_data.checks import Finding, RowCheck, run_row_checks
from dpo_data.dialogue import in_form
from dpo_data.errors import RowError, UsageError
from dpo_data.expressions import Expression, kind, row_values
from dpo_data.pairing import Match, PairingPolicy, make_pairs
from dpo_data.prepared.manifest import KeptColumn
from dpo_data.prepared.schema import PairColumns
from dpo_data.readers.rows import RawRow
from dpo_data.records import (
    ConversationalPair,
    PairKeys,
    PreferencePair,
    ScoredResponses,
    TextPair,
    content_keys,
    encoded_fields,
)
from dpo_data.sources.fields import as_row_error, lookup
from dpo_data.sources.source import AdaptedGroup, Source, SourceOptions

#: Prompt, chosen and rejected as they are stored and hashed.
EncodedFields = tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class ConversionJob:
    """Settings by which rows become pairs; sent to worker processes.

    Attributes:
        columns: those of the pairs, besides the ones that all prepared folders have.
        kept: name of each metadata column of the pairs to the raw column and its type.
        where: the condition that a row must meet to be in a pair, or None.
        rows_name_split: True if the split that a row names, for sources whose rows do, precedes the one of its file.
        only_split: leave out the pairs of other splits.
    """

    source: str
    options: SourceOptions
    checks: tuple[RowCheck, ...]
    policy: PairingPolicy = field(default_factory=PairingPolicy)
    test_fraction: float = 0.0
    redact: bool = False
    columns: PairColumns = field(default_factory=PairColumns)
    kept: Mapping[str, KeptColumn] = field(default_factory=dict)
    where: Expression | None = None
    rows_name_split: bool = True
    only_split: str | None = None


@dataclass(slots=True)
class GroupResult:
    """Pairs of the rows of one group, and what became of each row; positions count the rows from 0.

    Attributes:
        pairs: each with the positions of the rows that chosen and rejected come from.
        paired: positions of the rows with a pair that passed the checks.
        errors: position -> why the row cannot be in a pair.
        reasons: position -> why the row is in no pair although it has no error.
        refused: positions of each pair that a check refused, with the check's code.
        left_out: reason -> possible pairs, or responses, that are in no pair.
    """

    pairs: list[tuple[PreferencePair, tuple[int, int]]] = field(default_factory=list)
    paired: set[int] = field(default_factory=set)
    errors: dict[int, RowError] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    refused: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def refuse(self, positions: tuple[int, int], error: RowError) -> None:
        """Refuse a pair; the error is that of the row it is about, and the pair's other row is left out."""
        self.refused.append((positions, error.code))
        chosen, rejected = positions
        for position in {"chosen": [chosen], "rejected": [rejected]}.get(error.field, positions):
            self.errors.setdefault(position, error)
        for position in positions:
            self.reasons.setdefault(position, error.code)

    def leave_out(self, positions: tuple[int, int], reason: str) -> None:
        """Leave out a pair for a reason in one word."""
        for position in positions:
            self.reasons.setdefault(position, reason)

    def unpaired(self, rows: Sequence[RawRow]) -> Iterator[tuple[RawRow, RowError | str]]:
        """Yield each row that is in no pair, with its error or the reason why it is left out."""
        for position, row in enumerate(rows):
            if position not in self.paired:
                yield row, self.errors.get(position) or self.reasons.get(position, "not_paired")

    def pairs_left_out(self) -> Counter[str]:
        """Return reason -> possible pairs, or responses, that are in no pair while their rows are in others."""
        counts = Counter(self.left_out)
        counts.update(code for positions, code in self.refused if self.paired.intersection(positions))
        return counts


def filtered_rows(rows: Sequence[RawRow], where: Expression | None, file: str, *, cells: bool) -> dict[int, str]:
    """Return the position of each row that does not meet a condition, with the reason for which it is left out.

    Args:
        rows: those of one group.
        where: the condition; None if there is none.
        file: that the rows come from.
        cells: True if the values are strings, whatever they spell.

    Raises: UsageError: a value has a type that the condition does not expect.
    """
    filtered: dict[int, str] = {}
    for position, row in enumerate(rows if where is not None else ()):
        if where is None or isinstance(row.value, RowError):
            continue
        try:
            holds = where.holds(row_values(row.value, lookup, cells=cells))
        except UsageError as error:
            columns = ", ".join(f"{name} ({kind(value)})" for name, value in row.value.items())
            message = f"{error.message}\n  {file}:{row.line} has: {columns}."
            raise UsageError(message, "where", where.text) from error
        if not holds:
            filtered[position] = "filtered_null" if holds is None else "filtered"
    return filtered


def adapt(
    rows: Sequence[RawRow], source: Source, job: ConversionJob, filtered: Mapping[int, str] = MappingProxyType({})
) -> GroupResult:
    """Return the pairs of rows that belong together, not yet checked, and the errors of the other rows.

    Args:
        rows: those of one group.
        source: of the rows.
        job: how they are converted.
        filtered: positions of rows that cannot be in a pair, with the reason. Other rows of the group may need them, as
            replies need the messages before them.
    """
    first = rows[0].value
    if isinstance(first, RowError):  # an unreadable row is a group of its own
        return GroupResult(errors={0: first})
    if len(filtered) == len(rows):
        return GroupResult(reasons=dict(filtered))
    try:
        if source.grouping is not None:
            values = [row.value for row in rows if isinstance(row.value, dict)]
            group = source.grouping.adapt(values, job.options)
            return _make_pairs(group.without(filtered) if filtered else group, source, job)
        adapted = source.adapt(first, job.options)
        if isinstance(adapted, ScoredResponses | list):
            scored = adapted if isinstance(adapted, list) else [adapted]
            return _make_pairs(AdaptedGroup(scored), source, job)
        return GroupResult(pairs=[(adapted, (0, 0))])
    except RowError as error:
        return GroupResult(errors=dict.fromkeys(range(len(rows)), error))
    except ValidationError as error:
        return GroupResult(errors=dict.fromkeys(range(len(rows)), as_row_error(error)))


def check(
    pair: PreferencePair, checks: Iterable[RowCheck], columns: PairColumns
) -> tuple[EncodedFields, PairKeys, list[tuple[RowCheck, Finding]]]:
    """Return the encoded fields of a pair, their keys, and the findings that are warnings.

    Raises: RowError: a text or a field that cannot be stored, or a finding that a check forbids.
    """
    if isinstance(pair, ConversationalPair):
        _require_columns(pair, columns)
    try:
        fields = encoded_fields(pair)
    except UnicodeEncodeError as error:
        raise _surrogate_error(error) from None
    findings = run_row_checks(pair, checks)
    for row_check, finding in findings:
        if row_check.severity == "error":
            raise RowError(row_check.code, finding.field, finding.message, row_check.hint)
    return fields, content_keys(*fields), findings


def _require_columns(pair: ConversationalPair, columns: PairColumns) -> None:
    """Raise RowError if the columns of the pairs have no place for what a pair has."""
    for message in (*pair.prompt, *pair.chosen, *pair.rejected):
        for name in ("tool_calls", "tool_call_id", "reasoning_content", "thinking"):
            has_column = columns.tools if name.startswith("tool") else name in columns.reasoning
            if not has_column and getattr(message, name):
                raise RowError("unsupported_field", name, f"a message has {name}, for which the pairs have no column.")
    for name, has_column in (("tools", columns.tools), ("chat_template_kwargs", columns.template_arguments)):
        if getattr(pair, name) and not has_column:
            raise RowError("unsupported_field", name, f"the row has {name}, for which the pairs have no column.")


def _make_pairs(group: AdaptedGroup, source: Source, job: ConversionJob) -> GroupResult:
    """Return the pairs that the policy makes of scored responses."""
    result = GroupResult(errors=dict(group.errors), reasons=dict(group.left_out))
    prompts = []
    for responses in group.responses:
        try:
            prompts.append(in_form(responses, job.options.form))
        except RowError as error:
            result.errors.update({response.row: error for response in responses.responses})
    try:
        matches = make_pairs(prompts, job.policy)
    except UnicodeEncodeError as error:
        raise _surrogate_error(error) from None
    result.left_out = matches.left_out
    result.reasons |= matches.row_reasons
    for match in matches.kept:
        try:
            result.pairs.append((_as_pair(match, scores=source.has_scores), match.rows))
        except ValidationError as error:
            result.refuse(match.rows, as_row_error(error))
    return result


def _as_pair(match: Match, *, scores: bool) -> PreferencePair:
    values: dict[str, Any] = {
        "prompt": match.group.prompt,
        "chosen": match.chosen.content,
        "rejected": match.rejected.content,
    }
    if scores:
        values |= {
            "chosen_score": match.chosen.sort_score,
            "rejected_score": match.rejected.sort_score,
            "margin": match.margin,
        }
    if isinstance(match.group.prompt, str):
        return TextPair(**values)
    return ConversationalPair(**values, tools=match.group.tools)


def _surrogate_error(error: UnicodeEncodeError) -> RowError:
    character = error.object[error.start]
    # What a decoder makes of a byte that is not UTF-8.
    byte = f"the byte 0x{ord(character) - 0xDC00:02x}, which is not UTF-8" if "\udc80" <= character <= "\udcff" else ""
    message = f"a text contains {byte or f'{character!r}, which is not a character'}."
    return RowError("invalid_unicode", "", message)
