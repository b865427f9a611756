"""Annotations as Label Studio and Argilla export them.

Label Studio's JSON export has {data, annotations: [{result: [{value: {selected: left}}]}]}; its CSV and JSON-MIN
exports have the results in the column of the control. "left" is the first of the two answers. Argilla 2 exports
{fields, responses: {question: [{value, user_id}]}}, or flattened the fields and "question.responses". Argilla 1 has a
column for each field, and one for each question with [{value, user_id, status}]. A ranking is a list of names of
fields, the best first, or of {value, rank}; rank 1 is the best.
Layouts as in label-studio-sdk's converter/utils.py and data-juicer's human_preference_annotation_mapper.py (which reads
exports of pairwise projects), and in argilla's records/_io/_generic.py.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from dpo_data.sources.fields import Row, lookup

#: Sides of Label Studio's control Pairwise.
SELECTED = {"left": -1.0, "right": 1.0}


class Annotation(NamedTuple):
    """One annotator's label; `verdict` is its meaning if the tool that wrote it defines it."""

    label: Any
    verdict: float | None = None


def label_annotations(value: Any) -> list[Annotation]:
    """Return the labels that a value holds: itself, or those of annotators in an export.

    >>> label_annotations([{"selected": "right"}])
    [Annotation(label='right', verdict=1.0)]
    >>> label_annotations([{"value": "x", "user_id": "u"}])
    [Annotation(label='x', verdict=None)]
    """
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError:
            return [Annotation(value)]
    if isinstance(value, list):
        pairwise = [item for item in value if "selected" in _value_of(item)]
        return [annotation for item in pairwise or value for annotation in label_annotations(item)]
    if not isinstance(value, Mapping):
        return [] if value is None or value == "" else [Annotation(value)]
    if "result" in value:  # an annotation of Label Studio
        return [] if value.get("was_cancelled") else label_annotations(value["result"])
    if "selected" in (inner := _value_of(value)):
        selected = inner["selected"]
        return [Annotation(selected, SELECTED.get(selected) if isinstance(selected, str) else None)]
    if "choices" in inner:
        return label_annotations(inner["choices"])
    if "value" in value:
        return label_annotations(value["value"]) if _is_submitted(value) else []
    return []


def _value_of(item: Any) -> Mapping[str, Any]:
    """Return the object with an annotator's value: a result of Label Studio has it in `value`."""
    if not isinstance(item, Mapping):
        return {}
    inner = item.get("value")
    return inner if isinstance(inner, Mapping) else item


def _is_submitted(answer: Mapping[str, Any]) -> bool:
    return answer.get("status") in (None, "submitted")


def rankings(value: Any) -> Iterator[dict[str, float]]:
    """Yield each annotator's ranking, names to ranks; nothing if the value holds none.

    >>> list(rankings([{"value": [{"value": "b", "rank": 1}, {"value": "a", "rank": 2}]}, {"value": ["a", "b"]}]))
    [{'b': 1.0, 'a': 2.0}, {'a': 1.0, 'b': 2.0}]
    """
    for answer in value if isinstance(value, list) else []:
        if isinstance(answer, Mapping) and "value" in answer and "rank" not in answer and _is_submitted(answer):
            answer = answer["value"]
        if ranking := _ranking(answer):
            yield ranking


def _ranking(value: Any) -> dict[str, float]:
    if isinstance(value, Mapping) and isinstance(value.get("rank"), list) and isinstance(value.get("value"), list):
        value = [{"value": name, "rank": rank} for name, rank in zip(value["value"], value["rank"], strict=False)]
    if not isinstance(value, list) or len(value) < 2:
        return {}
    if all(isinstance(item, str) for item in value):
        return {name: float(place) for place, name in enumerate(value, 1)}
    ranking = {}
    for item in value:
        rank = item.get("rank") if isinstance(item, Mapping) else None
        if isinstance(rank, bool) or not isinstance(rank, int | float) or not isinstance(item.get("value"), str):
            return {}
        ranking[item["value"]] = float(rank)
    return ranking


def mean_ranks(judgments: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean rank of each name, over the annotators who ranked it."""
    names = dict.fromkeys(name for ranking in judgments for name in ranking)
    return {name: fmean(ranking[name] for ranking in judgments if name in ranking) for name in names}


def argilla_fields(row: Row) -> Row:
    """Return the fields of a record of Argilla."""
    fields = row.get("fields")
    return fields if isinstance(fields, Mapping) else row


def argilla_questions(row: Row) -> dict[str, Any]:
    """Return the annotators' answers to each question of a record of Argilla."""
    responses = row.get("responses")
    if isinstance(row.get("fields"), Mapping) and isinstance(responses, Mapping):
        return {name: value for name, value in responses.items() if value is not None}
    return {
        name.removesuffix(".responses"): submitted(row, name)
        for name, value in row.items()
        if isinstance(value, list) and (name.endswith(".responses") or _are_answers(value))
    }


def submitted(row: Row, column: str) -> Any:
    """Return a column, without the answers that annotators did not submit if a column of their statuses says so."""
    answers, statuses = lookup(row, column), row.get(f"{column}.status")
    if not isinstance(answers, list) or not isinstance(statuses, list) or len(statuses) != len(answers):
        return answers
    return [answer for answer, status in zip(answers, statuses, strict=True) if status in (None, "submitted")]


def _are_answers(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, Mapping) and "value" in item and "user_id" in item for item in value)
