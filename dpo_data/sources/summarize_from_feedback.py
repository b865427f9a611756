r"""openai/summarize_from_feedback, config comparisons: two summaries of a post or an article, and a worker's choice.

`choice` is the index of the better summary. The prompt is the one of the paper: SUBREDDIT, TITLE, POST and "TL;DR:", or
the article and "TL;DR:" for CNN/DM. Summaries start with a space, so that in text form prompt + summary is one text.
Several workers judge the same pair, so contradictions are to be expected.
Columns as read by TRL's tldr_preference.py; the layout of articles is our own. The Hub repository has a loading script
instead of files, so files must be given with --input. The config axis, with one summary per row and scores of several
aspects, is not supported.
"""

from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import (
    Row,
    as_object,
    missing,
    required_choice,
    required_list,
    required_object,
    required_text,
)
from dpo_data.sources.responses import assistant, user
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both summaries, the preferred one with the lower rank.

    Raises: RowError: missing_field, wrong_type.
    """
    prompt = parse_info(required_object(row, "info"))
    chosen = required_choice(row, "choice", (0, 1))
    summaries = [
        required_text(as_object(value, f"summaries.{index}"), "text", f"summaries.{index}.")
        for index, value in enumerate(required_list(row, "summaries"))
    ]
    if len(summaries) < 2:
        raise missing(row, f"summaries.{len(summaries)}")
    responses = []
    for index, summary in enumerate(summaries[:2]):
        content = summary if options.form == "text" else [assistant(summary.removeprefix(" "))]
        responses.append(Response(content=content, rank=0 if index == chosen else 1))
    return ScoredResponses(prompt=prompt if options.form == "text" else [user(prompt)], responses=responses)


def parse_info(info: Row) -> str:
    """Return the prompt of a post or an article, including "TL;DR:".

    >>> print(parse_info({"subreddit": "r/pens", "title": "Ink", "post": "Which?"}))
    SUBREDDIT: r/pens
    TITLE: Ink
    POST: Which?
    TL;DR:
    """
    if info.get("article") is not None:
        return f"{required_text(info, 'article', 'info.')}\n\nTL;DR:"
    fields = {name.upper(): required_text(info, name, "info.") for name in ("subreddit", "title", "post")}
    return "\n".join([*(f"{name}: {text}" for name, text in fields.items()), "TL;DR:"])


SOURCE = Source(
    name="summarize-from-feedback",
    license="unknown",
    homepage="https://huggingface.co/datasets/openai/summarize_from_feedback",
    direction="choice is the index of the better summary",
    columns=("info", "summaries", "choice"),
    adapt=adapt,
)
