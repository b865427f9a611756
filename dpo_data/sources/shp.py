"""stanfordnlp/SHP and SHP-2: a Reddit post, two comments, and which of them the readers voted higher.

Votes are noisy where they are close: `--min-margin` counts upvotes. One post gives many rows; those that stand together
share `--max-pairs-per-prompt`.
Columns as in the card of JayHyeon/SHP_test.
"""

from dpo_data.errors import RowError
from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, required_choice, required_number, required_text
from dpo_data.sources.responses import assistant, question, separate_rows
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Both comments with their votes.

    Raises: RowError: missing_field, wrong_type; contradicting_scores where the label names the one with fewer votes.
    """
    label = required_choice(row, "labels", (0, 1))
    scores = {side: required_number(row, f"score_{side}") for side in "AB"}
    preferred, other = ("A", "B") if label == 1 else ("B", "A")
    if scores[preferred] < scores[other]:
        message = f"labels names {preferred}, which has {scores[preferred]:g} votes against {scores[other]:g}."
        raise RowError("contradicting_scores", "labels", message)
    return ScoredResponses(
        prompt=question(required_text(row, "history")),
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
    group_key=lambda row: row.get("post_id"),
    adapt_group=lambda rows, options: separate_rows(rows, options, adapt),
)
