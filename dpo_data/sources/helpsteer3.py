"""nvidia/HelpSteer3, config preference: a dialogue, two responses, and the preference of several annotators.

overall_preference goes from -3 to 3: a negative value means that response1 is better, 0 is a tie.
Columns as read by NeMo-RL's helpsteer3.py.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required, required_number, required_text
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import signed_preference
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both responses; the margin is the strength.

    Raises: RowError: missing_field, wrong_type.
    """
    return signed_preference(
        messages(required(row, "context"), "context"),
        required_text(row, "response1"),
        required_text(row, "response2"),
        required_number(row, "overall_preference"),
    )


SOURCE = Source(
    name="helpsteer3",
    license="cc-by-4.0",
    homepage="https://huggingface.co/datasets/nvidia/HelpSteer3",
    direction="overall_preference negative: response1; positive: response2; 0: tie",
    columns=("context", "response1", "response2", "overall_preference"),
    adapt=adapt,
    has_scores=True,
    hub="nvidia/HelpSteer3",
    hub_files=("preference/train.jsonl.gz", "preference/validation.jsonl.gz"),
)
