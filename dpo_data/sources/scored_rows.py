"""Tables with one scored answer a row: the rows of a prompt are paired by their scores.

Rows belong together if they have the same prompt, and the same prompt id if there is one. They may be anywhere in a
file, which is therefore held in memory; rows of different files are not combined. A score is higher for the better
answer, a rank lower. Ratings exported from Argilla are read too: the mean of the annotators' ratings is the score.
"""

import json
from collections.abc import Hashable, Mapping
from functools import partial
from statistics import fmean
from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.sources.annotations import argilla_fields, argilla_questions, label_annotations
from dpo_data.sources.fields import FieldMap, Row, lookup, missing, number
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant, merge_rows, require_response, user
from dpo_data.sources.source import Grouping, RowContents, Source, SourceOptions

FIELDS = ("prompt", "response", "score", "rank", "id")
#: Names of the column of each field, the likeliest first.
NAMES = {
    "prompt": ("prompt", "question", "instruction", "query", "input"),
    "response": ("response", "answer", "completion", "output", "generation", "reply"),
    "score": ("score", "rating", "reward", "overall_score", "quality", "mean_rating"),
    "rank": ("rank", "ranking"),
    "id": ("prompt_id", "question_id", "query_id", "instruction_id", "conversation_id", "group_id"),
}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the prompt with its answer.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    prompt, response = _contents(row, options.mapping)
    is_ranked = _column(row, options.mapping, "score") is None and _column(row, options.mapping, "rank") is not None
    judgment = "rank" if is_ranked else "score"
    value = _judgment(row, options.mapping, judgment)
    if value is None and _column(row, options.mapping, judgment) is None and not _ratings(row):
        raise missing(row, "score")
    answer = Response(
        content=response,
        score=value if judgment == "score" else None,
        rank=value if judgment == "rank" else None,
        reason=None if value is not None else "unscored",
    )
    return ScoredResponses(prompt=prompt, responses=[answer])


def _column(row: Row, mapping: FieldMap, field: str) -> str | None:
    """Return the column of a field: the mapped one, or the likeliest that the row has."""
    fields = argilla_fields(row)
    names = {name.lower(): name for name in fields}
    return mapping.get(field) or next((names[name] for name in NAMES[field] if name in names), None)


def _judgment(row: Row, mapping: FieldMap, field: str) -> float | None:
    column = _column(row, mapping, field)
    if column is not None and not isinstance(value := lookup(argilla_fields(row), column), list):
        return number(value, column)
    ratings = [rating for values in _ratings(row).values() for rating in values]
    return fmean(ratings) if ratings else None


def _ratings(row: Row) -> dict[str, list[float]]:
    """Return the ratings of the first question of Argilla that has numbers as its answers."""
    for name, answers in argilla_questions(row).items():
        values = [annotation.label for annotation in label_annotations(answers)]
        if values and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            return {name: [float(value) for value in values]}
    return {}


def _contents(row: Row, mapping: FieldMap) -> tuple[Content, Content]:
    fields = argilla_fields(row)
    values: dict[str, Any] = {}
    for field in ("prompt", "response"):
        column = _column(row, mapping, field) or field
        values[field] = lookup(fields if column in fields else row, column)
        if values[field] is None:
            raise missing(row, column)
    prompt, response = values["prompt"], values["response"]
    if isinstance(prompt, str) and isinstance(response, str):
        return prompt, response
    content: list[Message] = [assistant(response)] if isinstance(response, str) else messages(response, "response")
    require_response("response", content)
    return [user(prompt)] if isinstance(prompt, str) else messages(prompt, "prompt"), content


def group_key(row: Row, options: SourceOptions) -> Hashable:
    """Return the prompt in a hashable form, with its id; None if it cannot be read."""
    try:
        prompt, _ = _contents(row, options.mapping)
    except RowError:
        return None
    column = _column(row, options.mapping, "id")
    shared = json.dumps(lookup(row, column) if column else None, default=str)
    return shared, prompt if isinstance(prompt, str) else json.dumps([message.model_dump() for message in prompt])


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the answer of a row, or None if it lacks one."""
    try:
        prompt, response = _contents(row, mapping)
    except RowError:
        return None
    return RowContents(prompt, [response])


def looks_like(row: Row) -> bool:
    """Return True if the row has one answer and a number that judges it."""
    others = {"chosen", "rejected", "label", "completions"} | (set() if "fields" in row else {"responses"})
    if others & set(row):
        return False
    try:
        scored = adapt(row, SourceOptions())
    except RowError:
        return False
    return scored.responses[0].reason is None


def reads(row: Row, mapping: FieldMap) -> tuple[str, ...]:
    """Return the columns of a row that its pair depends on."""
    columns = [_column(row, mapping, field) for field in FIELDS]
    inner = ("fields", "responses") if isinstance(row.get("fields"), Mapping) else tuple(_ratings(row))
    return (*(column for column in columns if column is not None), *inner)


SOURCE = Source(
    name="scored-rows",
    license="unknown",
    homepage="",
    direction="the higher score, or the lower rank, of the same prompt",
    columns=(),
    adapt=adapt,
    looks_like=looks_like,
    reads=reads,
    contents=contents,
    has_scores=True,
    mapped_fields=FIELDS,
    grouping=Grouping(group_key, partial(merge_rows, adapt=adapt), buffer_whole_file=True),
    example_options="--map response=answer --map score=rating",
)
