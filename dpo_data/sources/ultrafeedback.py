"""openbmb/UltraFeedback, raw: four completions of one instruction, each rated in four aspects.

The score of a completion is the mean of its aspect ratings. `overall_score` is not used: on 2,628 completions a 1
stands there as 10 (card of argilla/ultrafeedback-binarized-preferences). A rating is a string and may be "N/A"; a
completion without any rating is left out. The system prompt that a completion was sampled with differs from one
completion to the next, and the responses of a pair share one prompt: it is not kept.
Columns as read by TRL's examples/datasets/ultrafeedback.py.
"""

from statistics import fmean

from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import (
    Row,
    as_object,
    number,
    objects_with,
    required_list,
    required_object,
    required_text,
)
from dpo_data.sources.responses import assistant, question
from dpo_data.sources.source import Source, SourceOptions

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The completions with their mean ratings.

    Raises: RowError: missing_field, wrong_type.
    """
    responses = []
    for place, value in enumerate(required_list(row, "completions")):
        path = f"completions.{place}."
        completion = as_object(value, path[:-1])
        score = mean_rating(required_object(completion, "annotations", path), f"{path}annotations.")
        content = [assistant(required_text(completion, "response", path))]
        responses.append(Response(content=content, score=score, note=None if score is not None else "unrated"))
    return ScoredResponses(prompt=question(required_text(row, "instruction")), responses=responses)


def mean_rating(annotations: Row, path: str) -> float | None:
    """The mean of the aspects that have a rating, or None.

    Raises: RowError: wrong_type.
    """
    ratings = []
    for aspect in ASPECTS:
        if annotations.get(aspect) is None:
            continue
        rating = as_object(annotations[aspect], path + aspect).get("Rating")
        if rating not in ("N/A", None):
            ratings.append(number(rating, f"{path}{aspect}.Rating"))
    known = [rating for rating in ratings if rating is not None]
    return fmean(known) if known else None


SOURCE = Source(
    name="ultrafeedback",
    license="mit",
    homepage="https://huggingface.co/datasets/openbmb/UltraFeedback",
    direction="the completion with the higher mean of its aspect ratings",
    columns=("instruction", "completions"),
    adapt=adapt,
    looks_like=lambda row: objects_with(row["completions"], "annotations"),
    has_scores=True,
    hub="openbmb/UltraFeedback",
    hub_files=("*.jsonl",),
)
