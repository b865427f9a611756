"""Settings that the first rows decide: the form of the pairs, and the columns of their messages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from pydantic import ValidationError

from dpo_data.boundary import are_parts_of_one_text
from dpo_data.conversion.plan import ConversionPlan
from dpo_data.errors import RowError, UsageError, argument, did_you_mean
from dpo_data.options import FIRST_ROWS, Form
from dpo_data.prepared.reader import open_prepared
from dpo_data.readers.inputs import InputFile
from dpo_data.records import ConversationalPair, Message, PreferencePair, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row, has_column
from dpo_data.sources.source import Source, SourceOptions

TOOL_FIELDS = ("tool_calls", "tool_call_id", "name")
REASONING_FIELDS = ("reasoning_content", "thinking")


def decide(plan: ConversionPlan, rows: Sequence[Row]) -> ConversionPlan:
    """Return a plan with everything that the first rows decide.

    Args:
        plan: says what is yet to be decided.
        rows: the readable ones of the first rows of the first file.

    Raises: UsageError: none of them has a column that is to be kept.
    """
    _require_kept_columns(plan, rows)
    if plan.detects_form:
        plan = plan.in_form(*detect_form(plan.source, rows, plan.options.mapping))
    if plan.form == "conversational" and plan.source.has_tools:
        found = message_fields(plan.source, rows, plan.job.options)
        columns = replace(
            plan.job.columns,
            tools=plan.job.columns.tools or not found.isdisjoint(("tools", *TOOL_FIELDS)),
            template_arguments="chat_template_kwargs" in found,
            reasoning=tuple(name for name in REASONING_FIELDS if name in found),
        )
        plan = replace(plan, job=replace(plan.job, columns=columns))
    return plan


def of_prepared(plan: ConversionPlan, files: Sequence[InputFile]) -> ConversionPlan:
    """Return the plan with the source and the form of the prepared folders among the inputs, if they agree.

    Raises:
        UsageError: another source than pairs would read a prepared folder.
        PreparedError: a folder must not be used.
    """
    folders = list(dict.fromkeys(file.prepared for file in files if file.prepared is not None))
    if not folders:
        return plan
    if plan.source.name != "pairs":
        raise UsageError(
            f"{folders[0]}: is a prepared folder already.\n  Check it: dpo-data validate {folders[0]}; or convert it "
            f"again: dpo-data convert pairs {argument('inputs', folders[0])}."
        )
    prepared = [open_prepared(folder) for folder in folders]
    for folder in prepared:
        folder.require_undamaged_shards()
    manifests = [folder.manifest for folder in prepared]
    if any(file.prepared is None for file in files):
        return plan
    first = manifests[0]
    if plan.detects_form and all(manifest.form == first.form for manifest in manifests):
        plan = plan.in_form(first.form, "the form of the prepared folder")
    same_source = all(manifest.source == first.source for manifest in manifests)
    labels = {
        name: text
        for name in ("name", "description", "license")
        if (text := getattr(first, name)) is not None and all(getattr(each, name) == text for each in manifests)
    }
    return replace(plan, parent=first.source if same_source else None, labels={**labels, **plan.labels})


def _require_kept_columns(plan: ConversionPlan, rows: Sequence[Row]) -> None:
    for name, kept in plan.job.kept.items():
        if rows and not any(has_column(row, kept.column) for row in rows):
            columns = list(dict.fromkeys(column for row in rows for column in row))
            raise UsageError(
                f"none of the first rows has the column {kept.column}.\n  They have: {', '.join(columns)}."
                f"{did_you_mean(kept.column, columns)}",
                "keep",
                name,
            )


def message_fields(source: Source, rows: Iterable[Row], options: SourceOptions) -> set[str]:
    """Return the fields that some dialogues have: those of messages besides role and content, tools, and arguments."""
    found: set[str] = set()
    for row in rows:
        try:
            adapted = source.adapt(row, options)
        except (RowError, ValidationError):
            continue
        for item in adapted if isinstance(adapted, list) else [adapted]:
            found |= {name for name in ("tools", "chat_template_kwargs") if getattr(item, name, None)}
            for message in _messages(item):
                found |= {name for name in (*TOOL_FIELDS, *REASONING_FIELDS) if getattr(message, name)}
    return found


def _messages(item: PreferencePair | ScoredResponses) -> Iterator[Message]:
    if isinstance(item, ConversationalPair):
        yield from (*item.prompt, *item.chosen, *item.rejected)
    elif isinstance(item, ScoredResponses):
        for content in (item.prompt, *(response.content for response in item.responses)):
            yield from content if isinstance(content, list) else ()


class DetectedForm(NamedTuple):
    """A form, and the reason in a few words; None for a source whose form does not depend on its rows."""

    form: Form
    reason: str | None


def detect_form(source: Source, rows: Iterable[Row], mapping: FieldMap) -> DetectedForm:
    """Return the form that suits rows: conversational for messages, and for strings that are turns of a dialogue.

    Strings are turns unless prompt and response are parts of one text in at least half of the rows.

    Args:
        source: of the rows.
        rows: the first rows of its first file.
        mapping: field of the pair -> column of the table.
    """
    if source.contents is None:
        return DetectedForm("text", None)
    compared = joined = 0
    for row in rows:
        contents = source.contents(row, mapping)
        if contents is None:
            continue
        if not all(isinstance(content, str) for content in (contents.prompt, *contents.responses)):
            return DetectedForm("conversational", "the rows hold messages")
        if contents.prompt and any(contents.responses):
            compared += 1
            joined += all(are_parts_of_one_text(contents.prompt, response) for response in contents.responses)
    if not compared:
        return DetectedForm("text", f"none of the first {FIRST_ROWS:,} rows holds texts")
    form: Form = "text" if 2 * joined >= compared else "conversational"
    unit = "pair is one text" if form == "text" else "string is a turn"
    have = "row has" if compared == 1 else "rows have"
    return DetectedForm(
        form,
        f"each {unit}: {joined:,} of the first {compared:,} {have} white space or a marker between prompt and response",
    )
