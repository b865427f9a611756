"""argilla/distilabel-capybara-dpo-7k-binarized: two whole dialogues of several turns that differ in the last reply.

chosen and rejected hold all turns, so that taking the first two messages of each compares the wrong replies; the prompt
is what both share. Ratings may be equal, which is a tie. Columns beyond those read here were not verified.
Columns as used by argilla's distilabel-workbench.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_number
from dpo_data.sources.responses import preferred, shared_dialogue
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The pair with its ratings.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge, contradicting_scores.
    """
    ratings = optional_number(row, "rating_chosen"), optional_number(row, "rating_rejected")
    return preferred(*shared_dialogue(row, "chosen", "rejected"), *ratings)


SOURCE = Source(
    name="capybara-dpo",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/argilla/distilabel-capybara-dpo-7k-binarized",
    direction="chosen; equal ratings are a tie",
    columns=("chosen", "rejected", "rating_chosen", "rating_rejected"),
    adapt=adapt,
    optional=("prompt", "conversation"),
    has_scores=True,
    hub="argilla/distilabel-capybara-dpo-7k-binarized",
    hub_files=("data/train-*.parquet",),
)
