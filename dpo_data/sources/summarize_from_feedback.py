r"""openai/summarize_from_feedback, comparisons: two summaries of a post or an article, and a worker's choice.

`choice` is the index of the better summary. The prompt is the one that the models of the paper saw: "SUBREDDIT: r/...",
"TITLE: ...", "POST: ..." and "TL;DR:", separated by blank lines; an article of CNN/DM is between "Article:" and
"TL;DR:", each on a line of its own. Summaries of posts start with a space, so that in text form prompt + summary is one
text. The column `split` has train, and valid1 and valid2, which go to test. Several workers judge the same pair, so
contradictions are to be expected. HuggingFaceH4's copy calls the columns meta, responses and label. The Hub repository
has a loading script instead of files. axis_evals, with one summary per row and scores of several aspects, are not
supported.
Prompts as in openai/summarize-from-feedback, utils/experiment_helpers.py, and TRL's tldr_preference.py, which leaves
out the line break after an article's "TL;DR:"; columns as in the README of OpenAI's repository.
"""

from collections.abc import Mapping

from dpo_data.errors import RowError
from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import (
    Row,
    as_object,
    missing,
    objects_with,
    required_choice,
    required_list,
    required_object,
    required_text,
    split_column,
)
from dpo_data.sources.responses import assistant, user
from dpo_data.sources.source import Source, SourceOptions

#: Columns of OpenAI's files, and of HuggingFaceH4/summarize-from-feedback.
LAYOUTS = (("info", "summaries", "choice"), ("meta", "responses", "label"))


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both summaries, the preferred one with the lower rank.

    Raises: RowError: missing_field, wrong_type.
    """
    info, summaries, choice = next((layout for layout in LAYOUTS if layout[0] in row), LAYOUTS[0])
    prompt = parse_info(required_object(row, info), f"{info}.")
    chosen = required_choice(row, choice, (0, 1))
    texts = [
        required_text(as_object(value, f"{summaries}.{index}"), "text", f"{summaries}.{index}.")
        for index, value in enumerate(required_list(row, summaries))
    ]
    if len(texts) < 2:
        raise missing(row, f"{summaries}.{len(texts)}")
    if len(texts) > 2:
        raise RowError("wrong_type", summaries, f"{summaries} has {len(texts)} summaries, not two.")
    responses = []
    for index, text in enumerate(texts):
        content = text if options.form == "text" else [assistant(text.removeprefix(" "))]
        responses.append(Response(content=content, rank=0 if index == chosen else 1))
    return ScoredResponses(prompt=prompt if options.form == "text" else [user(prompt.rstrip())], responses=responses)


def parse_info(info: Row, path: str = "info.") -> str:
    """Return the prompt of a post or an article.

    >>> print(parse_info({"subreddit": "pens", "title": "Ink", "post": "Which?"}))
    SUBREDDIT: r/pens
    <BLANKLINE>
    TITLE: Ink
    <BLANKLINE>
    POST: Which?
    <BLANKLINE>
    TL;DR:

    Raises: RowError: missing_field or wrong_type.
    """
    if info.get("article") is not None:
        return f"Article:\n{required_text(info, 'article', path)}\n\nTL;DR:\n"
    subreddit, title, post = (required_text(info, name, path) for name in ("subreddit", "title", "post"))
    return f"SUBREDDIT: r/{subreddit.removeprefix('r/')}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"


def looks_like(row: Row) -> bool:
    """Return True if the row has the columns of one layout, and a text in each summary."""
    return any(
        isinstance(row.get(info), Mapping) and objects_with(row.get(texts), "text") for info, texts, _ in LAYOUTS
    )


SOURCE = Source(
    name="summarize-from-feedback",
    license="unknown",
    homepage="https://huggingface.co/datasets/openai/summarize_from_feedback",
    direction="choice (in HuggingFaceH4's copy label) is the index of the better summary",
    columns=(),
    layouts=LAYOUTS,
    adapt=adapt,
    optional=("split",),
    looks_like=looks_like,
    row_split=split_column,
    download="https://openaipublic.blob.core.windows.net/summarize-from-feedback/dataset/comparisons",
    tested_on="golden rows in the layout of a real row",
)
