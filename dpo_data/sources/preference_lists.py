"""Tables with a list of preferred and a list of rejected answers to a prompt: each of the first beats each other.

All of them are paired, unless --max-pairs-per-prompt says how many. Answers that occur on both sides are left out.
"""

from collections.abc import Sequence
from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Content, Response, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row, lookup, missing
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant
from dpo_data.sources.source import RowContents, Source, SourceOptions

FIELDS = ("prompt", "chosen", "rejected")


def adapt(row: Row, options: SourceOptions) -> list[ScoredResponses]:
    """Return each preferred answer with each rejected one.

    Raises: RowError: missing_field, wrong_type.
    """
    column = options.mapping.get("prompt", "prompt")
    prompt = lookup(row, column)
    if prompt is None:
        raise missing(row, column)
    content: Content = prompt if isinstance(prompt, str) else messages(prompt, column)
    return crossed(content, *(answers(row, options.mapping.get(side, side)) for side in ("chosen", "rejected")))


def answers(row: Row, column: str) -> list[str]:
    """Return the answers in a column: a list of strings, or one string.

    Raises: RowError: missing_field, wrong_type.
    """
    value = lookup(row, column)
    if value is None or value == []:
        raise missing(row, column) if value is None else RowError("missing_field", column, f"{column} has no answers.")
    texts = value if isinstance(value, list) else [value]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise RowError(
                "wrong_type", f"{column}.{index}", f"{column}.{index} is {type(text).__name__}, not a string."
            )
    return texts


def crossed(prompt: Content, chosen: Sequence[str], rejected: Sequence[str]) -> list[ScoredResponses]:
    """Return each preferred answer with each rejected one; texts if the prompt is a text, else messages."""

    def response(text: str, rank: int) -> Response:
        reason = "on_both_sides" if text in chosen and text in rejected else None
        content: Content = text if isinstance(prompt, str) else [assistant(text)]
        return Response(content=content, rank=None if reason else rank, reason=reason)

    return [
        ScoredResponses(prompt=prompt, responses=[response(better, 1), response(worse, 2)])
        for better in chosen
        for worse in rejected
    ]


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the answers of a row, or None if it lacks one."""
    try:
        pairs = adapt(row, SourceOptions(mapping=mapping))
    except RowError:
        return None
    return RowContents(pairs[0].prompt, [response.content for pair in pairs for response in pair.responses])


def are_lists(row: Row) -> bool:
    """Return True if both sides are lists of strings."""
    return all(_is_list_of_texts(row.get(side)) for side in ("chosen", "rejected"))


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


SOURCE = Source(
    name="preference-lists",
    license="unknown",
    homepage="",
    direction="each answer in chosen over each one in rejected",
    columns=FIELDS,
    adapt=adapt,
    looks_like=are_lists,
    contents=contents,
    mapped_fields=FIELDS,
    example_options="--map chosen=good_answers --map rejected=bad_answers",
)
