"""nvidia/HelpSteer2, folder preference: two responses and a preference strength from -3 to 3.

A negative strength means that response_1 is better, 0 is a tie. The column `split` has train and val, which goes to
test: one file holds both.
Columns as in the dataset card.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required_number, required_text, split_column
from dpo_data.sources.helpsteer2 import parse_prompt
from dpo_data.sources.responses import signed_preference
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both responses; the margin is the strength.

    Raises: RowError: missing_field, wrong_type.
    """
    return signed_preference(
        parse_prompt(required_text(row, "prompt")),
        required_text(row, "response_1"),
        required_text(row, "response_2"),
        required_number(row, "preference_strength"),
    )


SOURCE = Source(
    name="helpsteer2-preference",
    license="cc-by-4.0",
    homepage="https://huggingface.co/datasets/nvidia/HelpSteer2",
    direction="preference_strength negative: response_1; positive: response_2; 0: tie",
    columns=("prompt", "response_1", "response_2", "preference_strength"),
    adapt=adapt,
    optional=("split",),
    row_split=split_column,
    has_scores=True,
    hub="nvidia/HelpSteer2",
    hub_files=("preference/preference.jsonl.gz",),
    tested_on="golden rows in the layout of a real row",
)
