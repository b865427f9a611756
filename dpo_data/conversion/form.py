"""Form of the pairs, from the first rows of a source whose rows may be text or turns of a dialogue."""

from collections.abc import Iterable
from typing import NamedTuple

from dpo_data.boundary import are_parts_of_one_text
from dpo_data.options import FIRST_ROWS, Form
from dpo_data.sources.fields import FieldMap, Row
from dpo_data.sources.source import Source


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
