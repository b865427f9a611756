"""UltraFeedback as pairs, in three layouts: HuggingFaceH4/ultrafeedback_binarized and two datasets of argilla.

HuggingFaceH4 has two dialogues with score_chosen and score_rejected; its pairs are in train_prefs and test_prefs.
argilla/ultrafeedback-binarized-preferences has two strings with mean ratings, and its -cleaned version two dialogues
with chosen-rating and rejected-rating. Rejected was drawn at random, so scores may be equal; such a pair is a tie.
HuggingFaceH4's dataset and argilla's first one contain prompts of TruthfulQA; the cleaned one does not.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_number, required_text
from dpo_data.sources.responses import preferred, shared_dialogue, user_prompt
from dpo_data.sources.source import Source, SourceOptions

#: Columns of the two sides and of their scores in each layout.
LAYOUTS = (
    ("chosen", "rejected", "score_chosen", "score_rejected"),
    ("chosen", "rejected", "chosen-rating", "rejected-rating"),
    ("chosen_response", "rejected_response", "chosen_avg_rating", "rejected_avg_rating"),
)


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses with their scores.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge, contradicting_scores.
    """
    chosen, rejected, chosen_score, rejected_score = next(
        (layout for layout in LAYOUTS if layout[2] in row), LAYOUTS[0]
    )
    scores = optional_number(row, chosen_score), optional_number(row, rejected_score)
    if chosen == "chosen_response":
        prompt = user_prompt(required_text(row, "instruction"))
        return preferred(prompt, required_text(row, chosen), required_text(row, rejected), *scores)
    return preferred(*shared_dialogue(row, chosen, rejected), *scores)


SOURCE = Source(
    name="ultrafeedback-binarized",
    license="mit",
    homepage="https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized",
    direction="chosen, or chosen_response; equal scores are a tie",
    columns=(),
    adapt=adapt,
    optional=("prompt", "instruction", "messages", *(column for layout in LAYOUTS for column in layout)),
    looks_like=lambda row: any(all(column in row for column in layout) for layout in LAYOUTS),
    has_scores=True,
    hub="HuggingFaceH4/ultrafeedback_binarized",
    hub_files=("data/train_prefs-*.parquet", "data/test_prefs-*.parquet"),
)
