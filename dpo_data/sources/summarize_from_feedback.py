r"""openai/summarize_from_feedback, config comparisons: two summaries of a post or an article, and a worker's choice.

`choice` is the index of the better summary. The prompt is the one that the paper's models saw: SUBREDDIT, TITLE, POST
and "TL;DR:", or the article and "TL;DR:" for CNN/DM. It is text by nature, not a dialogue: summaries start with a
space, and in text form prompt + summary reads on. Several workers judge one pair, so that contradictions are normal
here.
Columns as read by TRL's tldr_preference.py; the layout of articles is our own. On the hub a script loads it, so that
its files are to be named with --input. The config axis has one summary a row and scores of several aspects: it has
other columns, and is not read.
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
    """Both summaries, the chosen one ranked first.

    Raises: RowError: missing_field, wrong_type.
    """
    prompt = parse_info(required_object(row, "info"))
    chosen = required_choice(row, "choice", (0, 1))
    summaries = [
        required_text(as_object(value, f"summaries.{place}"), "text", f"summaries.{place}.")
        for place, value in enumerate(required_list(row, "summaries"))
    ]
    if len(summaries) < 2:
        raise missing(row, f"summaries.{len(summaries)}")
    responses = []
    for place, summary in enumerate(summaries[:2]):
        content = summary if options.form == "text" else [assistant(summary.removeprefix(" "))]
        responses.append(Response(content=content, rank=0 if place == chosen else 1))
    return ScoredResponses(prompt=prompt if options.form == "text" else [user(prompt)], responses=responses)


def parse_info(info: Row) -> str:
    """The prompt of a post or an article, up to "TL;DR:".

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
