"""openai/webgpt_comparisons: a question, two answers with quotes from the web, and a score from -1 to 1 for each.

Equal scores are a tie. The quotes differ between the two answers, so they are not part of the prompt, which both share.
Citations such as "[1]" stay in the answers, because the annotators saw them.
Columns as read by open-instruct's webgpt.py.
"""

from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, required_number, required_object, required_text
from dpo_data.sources.responses import assistant, user_prompt
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both answers with their scores.

    Raises: RowError: missing_field, wrong_type.
    """
    question = required_text(required_object(row, "question"), "full_text", "question.")
    return ScoredResponses(
        prompt=user_prompt(question),
        responses=[
            Response(
                content=[assistant(required_text(row, f"answer_{side}"))], score=required_number(row, f"score_{side}")
            )
            for side in (0, 1)
        ],
    )


SOURCE = Source(
    name="webgpt",
    license="unknown",
    homepage="https://huggingface.co/datasets/openai/webgpt_comparisons",
    direction="the answer with the higher score; equal scores are a tie",
    columns=("question", "answer_0", "answer_1", "score_0", "score_1"),
    adapt=adapt,
    has_scores=True,
    hub="openai/webgpt_comparisons",
    hub_files=("comparisons.jsonl",),
)
