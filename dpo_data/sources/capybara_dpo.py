"""argilla/distilabel-capybara-dpo-7k-binarized: two dialogues of several turns that differ in the last reply.

chosen and rejected have all turns; the prompt is what they share. Equal ratings are a tie.
Columns as used by argilla's distilabel-workbench; others were not verified.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_number
from dpo_data.sources.responses import preferred, shared_dialogue
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses with their ratings.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge, contradicting_scores.
    """
    ratings = optional_number(row, "rating_chosen"), optional_number(row, "rating_rejected")
    return preferred(*shared_dialogue(row, "chosen", "rejected"), *ratings)


SOURCE = Source(
    name="capybara-dpo",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/argilla/distilabel-capybara-dpo-7k-binarized",
    direction="chosen; equal ratings are a tie",
    columns=("chosen", "rejected"),
    adapt=adapt,
    optional=("prompt", "conversation", "rating_chosen", "rating_rejected"),
    looks_like=lambda row: "rating_chosen" in row and "rating_rejected" in row,
    has_scores=True,
    hub="argilla/distilabel-capybara-dpo-7k-binarized",
    hub_files=("data/train-*.parquet",),
)
