"""openbmb/UltraFeedback, the raw dataset: four completions of an instruction, each rated in four aspects.

The score of a completion is the mean of its aspect ratings. `overall_score` is not used, because 2,628 completions that
should have a 1 there have a 10 (card of argilla/ultrafeedback-binarized-preferences). A rating is a string and may be
"N/A"; a completion without ratings is left out. System prompts are not kept: they differ between the completions, but
the responses of a pair share one prompt.
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
from dpo_data.sources.responses import assistant, user_prompt
from dpo_data.sources.source import Source, SourceOptions

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the completions with their mean ratings.

    Raises: RowError: missing_field, wrong_type.
    """
    responses = []
    for index, value in enumerate(required_list(row, "completions")):
        path = f"completions.{index}."
        completion = as_object(value, path[:-1])
        score = mean_rating(required_object(completion, "annotations", path), f"{path}annotations.")
        content = [assistant(required_text(completion, "response", path))]
        responses.append(Response(content=content, score=score, reason=None if score is not None else "unrated"))
    return ScoredResponses(prompt=user_prompt(required_text(row, "instruction")), responses=responses)


def mean_rating(annotations: Row, path: str) -> float | None:
    """Return the mean of the aspects that have a rating, or None if there are none.

    Raises: RowError: wrong_type.
    """
    ratings = []
    for aspect in ASPECTS:
        if annotations.get(aspect) is None:
            continue
        rating = as_object(annotations[aspect], path + aspect).get("Rating")
        if rating not in ("N/A", None):
            ratings.append(number(rating, f"{path}{aspect}.Rating"))
    given = [rating for rating in ratings if rating is not None]
    return fmean(given) if given else None


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
