"""stanfordnlp/SHP and SHP-2: a Reddit post, two comments, and which of them got more votes.

Close votes are noisy; `--min-margin` is in upvotes. A post has many rows: adjacent rows of one post count together for
`--max-pairs-per-prompt`.
Columns as in the card of JayHyeon/SHP_test.
"""

from functools import partial

from dpo_data.errors import RowError
from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, required_choice, required_number, required_text
from dpo_data.sources.responses import assistant, separate_rows, user_prompt
from dpo_data.sources.source import Grouping, Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both comments with their votes.

    Raises: RowError: missing_field, wrong_type; contradicting_scores, if the labeled comment has fewer votes.
    """
    label = required_choice(row, "labels", (0, 1))
    scores = {side: required_number(row, f"score_{side}") for side in "AB"}
    preferred, other = ("A", "B") if label == 1 else ("B", "A")
    if scores[preferred] < scores[other]:
        message = f"labels names {preferred}, which has {scores[preferred]:g} votes against {scores[other]:g}."
        raise RowError("contradicting_scores", "labels", message)
    return ScoredResponses(
        prompt=user_prompt(required_text(row, "history")),
        responses=[
            Response(content=[assistant(required_text(row, f"human_ref_{side}"))], score=scores[side])
            for side in (preferred, other)
        ],
    )


SOURCE = Source(
    name="shp",
    license="unknown",
    homepage="https://huggingface.co/datasets/stanfordnlp/SHP",
    direction="labels 1: human_ref_A is preferred; 0: human_ref_B",
    columns=("history", "human_ref_A", "human_ref_B", "score_A", "score_B", "labels"),
    adapt=adapt,
    optional=("post_id",),
    has_scores=True,
    hub="stanfordnlp/SHP",
    hub_files=("*/train.json", "*/validation.json", "*/test.json"),
    grouping=Grouping(lambda row, options: row.get("post_id"), partial(separate_rows, adapt=adapt)),
    tested_on="golden rows in the layout of a real row",
)
