"""UltraFeedback as pairs, in three forms: HuggingFaceH4/ultrafeedback_binarized and two of argilla's.

HuggingFaceH4 has two dialogues and score_chosen, score_rejected; of its splits train_prefs and test_prefs are pairs.
argilla/ultrafeedback-binarized-preferences has two strings and mean ratings, its -cleaned two dialogues and
chosen-rating, rejected-rating. The binarizing drew the rejected one at random, so that scores may be equal: such a pair
is a tie. HuggingFaceH4's and argilla's first hold prompts of TruthfulQA; the cleaned form does not.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_number, required_text
from dpo_data.sources.responses import preferred, question, shared_dialogue
from dpo_data.sources.source import Source, SourceOptions

#: Columns of the two sides and of their scores, in each form.
FORMS = (
    ("chosen", "rejected", "score_chosen", "score_rejected"),
    ("chosen", "rejected", "chosen-rating", "rejected-rating"),
    ("chosen_response", "rejected_response", "chosen_avg_rating", "rejected_avg_rating"),
)


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The pair with its scores.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge, contradicting_scores.
    """
    chosen, rejected, chosen_score, rejected_score = next((form for form in FORMS if form[2] in row), FORMS[0])
    scores = optional_number(row, chosen_score), optional_number(row, rejected_score)
    if chosen == "chosen_response":
        prompt = question(required_text(row, "instruction"))
        return preferred(prompt, required_text(row, chosen), required_text(row, rejected), *scores)
    return preferred(*shared_dialogue(row, chosen, rejected), *scores)


SOURCE = Source(
    name="ultrafeedback-binarized",
    license="mit",
    homepage="https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized",
    direction="chosen, or chosen_response; equal scores are a tie",
    columns=(),
    adapt=adapt,
    optional=("prompt", "instruction", "messages", *(column for form in FORMS for column in form)),
    looks_like=lambda row: any(all(column in row for column in form) for form in FORMS),
    has_scores=True,
    hub="HuggingFaceH4/ultrafeedback_binarized",
    hub_files=("data/train_prefs-*.parquet", "data/test_prefs-*.parquet"),
)
