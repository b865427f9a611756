"""Options of a conversion, checked and resolved before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from dpo_data.checks import select_row_checks
from dpo_data.checks.personal_data import require_libraries
from dpo_data.conversion.adapt import ConversionJob
from dpo_data.errors import UsageError, argument, did_you_mean, require_choice
from dpo_data.expressions import Expression, parse_expression
from dpo_data.options import (
    DEFAULT_MAX_INVALID,
    DEFAULT_MAX_ROW_BYTES,
    SIDES,
    Axis,
    Form,
    FormChoice,
    OnError,
    Pairing,
    SplitName,
    Tie,
)
from dpo_data.pairing import PairingArguments, PairingPolicy
from dpo_data.prepared.manifest import ConvertOptions, KeptColumn, SourceEntry
from dpo_data.prepared.schema import KEPT_TYPES, RESERVED, PairColumns, pair_schema
from dpo_data.readers.remote import UNREACHABLE_HINT
from dpo_data.readers.splits import split_of
from dpo_data.sources import load_source
from dpo_data.sources.source import Source, SourceOptions

#: Kept column of the field `id`.
ROW_ID = "row_id"
PACKAGE = Path(__file__).parent.parent


class ConvertArguments(PairingArguments, total=False):
    """Keyword arguments of `convert` that decide what is read and what becomes of it; documented there."""

    sample: bool
    form: FormChoice
    mapping: Mapping[str, str] | None
    label_map: Mapping[str, str] | None
    where: str | None
    axis: Axis | None
    revision: str | None
    split: str | None
    train_on_eval: bool
    input_format: str | None
    encoding: str | None
    delimiter: str | None
    max_row_bytes: int
    test_fraction: float
    limit: int | None
    on_error: OnError
    max_invalid: float
    forbid: Sequence[str]
    allow: Sequence[str]
    redact: bool
    keep: Sequence[str]
    name: str | None
    description: str | None
    license: str | None


@dataclass(frozen=True)
class Arguments:
    """Values of `ConvertArguments`, those of the pairing policy apart, each valid by itself.

    Raises: UsageError: a value out of its range, or two that contradict each other.
    """

    sample: bool = False
    form: FormChoice = "auto"
    mapping: Mapping[str, str] | None = None
    label_map: Mapping[str, str] | None = None
    where: str | None = None
    axis: Axis | None = None
    revision: str | None = None
    split: str | None = None
    train_on_eval: bool = False
    input_format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    max_row_bytes: int = DEFAULT_MAX_ROW_BYTES
    test_fraction: float = 0.0
    limit: int | None = None
    on_error: OnError = "quarantine"
    max_invalid: float = DEFAULT_MAX_INVALID
    forbid: Sequence[str] = ()
    allow: Sequence[str] = ()
    redact: bool = False
    keep: Sequence[str] = ()
    name: str | None = None
    description: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        require_choice("form", self.form, FormChoice)
        require_choice("on_error", self.on_error, OnError)
        if self.split is not None:
            require_choice("split", self.split, SplitName)
            if self.test_fraction:
                raise UsageError(
                    f"{argument('split')} and {argument('test_fraction')} both decide the split of a row. "
                    "Pass only one of them."
                )
        if not 0 <= self.test_fraction < 1:
            raise UsageError("must be at least 0 and less than 1.", "test_fraction", self.test_fraction)
        if not 0 <= self.max_invalid <= 1:
            raise UsageError("must be between 0 and 1 (0% and 100%).", "max_invalid", self.max_invalid)
        if self.limit is not None and self.limit < 1:
            raise UsageError("must be at least 1.", "limit", self.limit)
        for option in ("name", "license"):
            text = getattr(self, option)
            if text is not None and (not text.strip() or len(text.splitlines()) > 1):
                raise UsageError("must be one line of text.", option, text)

    @property
    def labels(self) -> dict[str, str]:
        """Name, description and license, as far as they are given."""
        given = {"name": self.name, "description": self.description, "license": self.license}
        return {option: text for option, text in given.items() if text is not None}


@dataclass(frozen=True)
class ConversionPlan:
    """A conversion of which every option is known to be valid.

    Attributes:
        source: the source of the rows.
        inputs: files, folders, globs, URLs, or "-".
        input_format: format of all inputs, or None.
        encoding: of text files, or None.
        delimiter: of tables in text, or None.
        max_row_bytes: maximum bytes of a row of a text file.
        unreachable_hint: what to do if an input cannot be reached.
        job: what every chunk of rows needs.
        on_error: "stop" at the first invalid row, or "quarantine" it.
        options: those that affect the content, as the manifest records them.
        detects_form: the first rows are yet to decide the form.
        form_reason: why they decided so.
        parent: the source of the prepared folder that is converted again, or None.
        labels: name, description and license of the dataset, as far as they are given.
    """

    source: Source
    inputs: list[str]
    input_format: str | None
    encoding: str | None
    delimiter: str | None
    max_row_bytes: int
    unreachable_hint: str
    job: ConversionJob
    on_error: OnError
    options: ConvertOptions
    detects_form: bool = False
    form_reason: str | None = None
    parent: SourceEntry | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def form(self) -> Form:
        """The form of the pairs."""
        return self.job.options.form

    def in_form(self, form: Form, reason: str | None) -> "ConversionPlan":
        """Return the plan with another form, and the reason why it was chosen."""
        options = replace(self.job.options, form=form)
        return replace(self, job=replace(self.job, options=options), detects_form=False, form_reason=reason)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the pairs."""
        return pair_schema(self.form, self.job.columns)

    @property
    def needs_first_rows(self) -> bool:
        """True if the first rows decide something; see `dpo_data.conversion.first_rows`."""
        keeps_messages = self.form == "conversational" and self.source.has_tools
        return self.detects_form or keeps_messages or bool(self.job.kept)


def make_plan(
    source: str, inputs: str | Path | Sequence[str | Path] = (), **options: Unpack[ConvertArguments]
) -> ConversionPlan:
    """Return the plan of a conversion; the arguments are those of `convert`.

    Raises: UsageError: an unknown source or code, or options that contradict each other or the source.
    """
    if options.get("redact"):
        require_libraries()
    names = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    given: dict[str, Any] = dict(options)
    pairing = {name: given.pop(name) for name in PairingPolicy.model_fields if name in given}
    arguments = Arguments(**given)
    source_ = load_source(source)
    policy = _pairing_policy(source_, pairing)
    kept = _kept_columns(arguments)
    split, from_hub = _split(source_, arguments), not (names or arguments.sample)
    job = ConversionJob(
        source=source,
        options=_source_options(source_, arguments),
        checks=select_row_checks(arguments.forbid, arguments.allow),
        policy=policy,
        test_fraction=arguments.test_fraction,
        redact=arguments.redact,
        columns=PairColumns(
            scores=source_.has_scores,
            # Of other sources with tools, the first rows decide whether they have some.
            tools=source_.has_tools and source_.contents is None,
            kept={name: column.type for name, column in kept.items()},
        ),
        kept=kept,
        where=_where(arguments.where),
        rows_name_split=split is None or from_hub,
        only_split=split if from_hub and source_.row_split is not None else None,
    )
    recorded = ConvertOptions(
        mapping=dict(arguments.mapping or {}),
        label_map=dict(job.options.labels),
        where=arguments.where,
        axis=arguments.axis,
        revision=arguments.revision,
        pairing=None if source_.comes_in_pairs else policy,
        train_on_eval=arguments.train_on_eval,
        split=split,
        test_fraction=arguments.test_fraction,
        limit=arguments.limit,
        max_invalid=arguments.max_invalid,
        forbid=sorted(arguments.forbid),
        allow=sorted(arguments.allow),
        redact=arguments.redact,
    )
    return ConversionPlan(
        source=source_,
        inputs=_input_names(source_, names, arguments),
        input_format=arguments.input_format,
        encoding=arguments.encoding,
        delimiter=arguments.delimiter,
        max_row_bytes=arguments.max_row_bytes,
        unreachable_hint=UNREACHABLE_HINT if names else _hub_hint(source_),
        job=job,
        on_error=arguments.on_error,
        options=recorded,
        detects_form=arguments.form == "auto" and source_.contents is not None,
        labels=arguments.labels,
    )


def _kept_columns(arguments: Arguments) -> dict[str, KeptColumn]:
    """Return the metadata columns of the pairs, by their names.

    Raises: UsageError: a word cannot be read, or its name is reserved or given twice.
    """
    kept: dict[str, KeptColumn] = {}
    words = list(arguments.keep)
    if column := (arguments.mapping or {}).get("id"):
        words.append(f"{ROW_ID}={column}")
    for word in words:
        rest, colon, type_ = word.rpartition(":")
        if type_ not in KEPT_TYPES or not colon:
            rest, type_ = word, "text"
        name, _, column = rest.partition("=")
        if not name or rest.endswith("="):
            raise UsageError("must be NAME, NAME=COLUMN, or either with :text, :number or :bool.", "keep", word)
        if name in RESERVED:
            raise UsageError(f"every prepared folder has its own {name}.\n  Name another: OTHER={name}.", "keep", word)
        if name in kept:
            raise UsageError(f"{name} is given twice.", "keep", word)
        kept[name] = KeptColumn.model_validate({"column": column or name, "type": type_})
    return kept


def _where(text: str | None) -> Expression | None:
    """Return the condition that rows must meet, if there is one.

    Raises: UsageError: it is not an expression.
    """
    if text is None:
        return None
    try:
        return parse_expression(text)
    except UsageError as error:
        raise UsageError(error.message, "where", text) from error


def _pairing_policy(source: Source, values: Mapping[str, Any]) -> PairingPolicy:
    """Return the pairing policy of the values that are not None.

    Raises: UsageError: a value is out of its range, or does not apply to the source.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if given and source.comes_in_pairs:
        raise UsageError(
            f"{argument(next(iter(given)))} does not apply to {source.name}, whose rows are already pairs."
        )
    if "min_margin" in given and not source.has_scores:
        raise UsageError(f"{argument('min_margin')} does not apply to {source.name}, which has no scores.")
    if "pairing" in given:
        require_choice("pairing", given["pairing"], Pairing)
    if "tie" in given:
        require_choice("tie", given["tie"], Tie)
    if not 0 <= given.get("min_margin", 0) < float("inf"):
        raise UsageError("must be at least 0.", "min_margin", given["min_margin"])
    if given.get("max_pairs_per_prompt", 1) < 1:
        raise UsageError("must be at least 1.", "max_pairs_per_prompt", given["max_pairs_per_prompt"])
    return PairingPolicy(**given)


def _source_options(source: Source, arguments: Arguments) -> SourceOptions:
    """Return the options of the source's adapter.

    Raises: UsageError: a mapping or an axis that the source does not take, or lacks.
    """
    mapping, axis = arguments.mapping or {}, arguments.axis
    if mapping and not source.mapped_fields:
        raise UsageError(
            f"{argument('mapping')} does not apply to {source.name}, whose columns are fixed.\n"
            "  Use the source `pairs` for other tables."
        )
    for name in sorted(set(mapping) - set(source.mapped_fields)):
        suggestion = did_you_mean(name, source.mapped_fields)
        fields = ", ".join(source.mapped_fields)
        raise UsageError(f"there is no such field.\n  Fields: {fields}.{suggestion}", "mapping", f"{name}=...")
    for name, column in mapping.items():
        if not column and name not in source.omittable_fields:
            raise UsageError("must be FIELD=COLUMN, as in --map prompt=question.", "mapping", f"{name}=")
    if axis is not None and axis not in source.axes:
        if not source.axes:
            raise UsageError(f"{source.name} has only one judgment in each row.", "axis", axis)
        raise UsageError(f"choose from {', '.join(source.axes)}.", "axis", axis)
    if axis is None and source.axes:
        raise UsageError(
            f"{source.name} has several judgments in each row, and they may disagree.\n"
            f"  Choose one: {argument('axis', '|'.join(source.axes))}."
        )
    form: Form = "text" if arguments.form == "auto" else arguments.form
    return SourceOptions(form, mapping, axis, _labels(source, arguments.label_map or {}))


def _labels(source: Source, label_map: Mapping[str, str]) -> dict[str, str]:
    """Return value of a label -> side; an entry may have the side first, as in {"a": "A"}.

    Raises: UsageError: the source has no labels, or an entry names no side or two of them.
    """
    if label_map and not source.takes_labels:
        raise UsageError(f"{argument('label_map')} does not apply to {source.name}, whose labels are known.")
    labels: dict[str, str] = {}
    for first, second in label_map.items():
        entry = f"{first}={second}"
        if first != second and first in SIDES and second in SIDES:
            raise UsageError("both words name a side; which of them is the label?", "label_map", entry)
        if first not in SIDES and second not in SIDES:
            raise UsageError(f"must be VALUE={'|'.join(SIDES)}.", "label_map", entry)
        labels |= {first: second} if second in SIDES else {second: first}
    return labels


def _split(source: Source, arguments: Arguments) -> str | None:
    """Return the split of all rows, or None if each path decides.

    Raises: UsageError: rows of an evaluation set would go to train.
    """
    if arguments.train_on_eval and not source.eval_only:
        raise UsageError(
            f"{argument('train_on_eval', True)} does not apply to {source.name}, which is not an evaluation set."
        )
    if not source.eval_only or arguments.train_on_eval:
        return arguments.split
    if arguments.split == "train" or arguments.test_fraction:
        raise UsageError(
            f"{source.name} is an evaluation set: a model that is trained on it can no longer be evaluated with it.\n"
            f"  Its rows go to the split test. To train on it anyway: {argument('train_on_eval', True)}."
        )
    return "test"


def _input_names(source: Source, inputs: Sequence[str | Path], arguments: Arguments) -> list[str]:
    """Return the inputs to read: the given ones, the embedded sample, or the source's files on the Hub.

    Raises: UsageError: there are none, or options contradict them.
    """
    if arguments.sample and inputs:
        raise UsageError(
            f"{argument('sample', True)} reads the embedded sample, and {argument('inputs')} other files. "
            "Pass only one of them."
        )
    if arguments.revision is not None and (arguments.sample or inputs):
        raise UsageError(
            f"{argument('revision')} only applies to Hub files; it cannot be combined with {argument('inputs')} or "
            f"{argument('sample', True)}."
        )
    if arguments.sample:
        if not source.sample:
            raise UsageError(f"{source.name} has no embedded sample.\n  hh-rlhf has one.")
        return [str(PACKAGE / name) for name in source.sample]
    if inputs:
        return [str(name) for name in inputs]
    if not source.hub_files:
        where = f"{source.name} reads your own files.\n  Name them"
        if source.download:
            where = (
                f"{source.name} has no files on the Hub that can be read.\n  Download {source.download}, and name it"
            )
        raise UsageError(f"{where}: {argument('inputs', 'FILE')}.")
    split = arguments.split
    any_split = split is None or source.eval_only or source.row_split is not None
    names = [name for name in source.hub_files if any_split or split_of(name) == split]
    if not names:
        raise UsageError(
            f"{source.name} has no files of the split {split} on the Hub.\n  Leave out {argument('split')}."
        )
    repository = source.hub if arguments.revision is None else f"{source.hub}@{arguments.revision}"
    return [f"hf://datasets/{repository}/{name}" for name in names]


def _hub_hint(source: Source) -> str:
    hint = f"Read a local copy: {argument('inputs', 'FILE')}."
    return f"{hint} Or try the embedded sample: {argument('sample', True)}." if source.sample else hint
