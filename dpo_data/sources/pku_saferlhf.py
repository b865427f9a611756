"""PKU-Alignment/PKU-SafeRLHF: two responses with two judgments, which one is better and which one is safer.

The two judgments often disagree, so --axis must name one of them. The license forbids commercial use. The older
revision round0 has fewer columns, including all that are used here.
Columns as in the dataset card.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required_choice, required_text
from dpo_data.sources.responses import preferred, user_prompt
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses, preferred according to the axis.

    Raises: RowError: missing_field, wrong_type.
    """
    chosen = required_choice(row, f"{options.axis}_response_id", (0, 1))
    sides = [required_text(row, f"response_{side}") for side in (chosen, 1 - chosen)]
    return preferred(user_prompt(required_text(row, "prompt")), sides[0], sides[1])


SOURCE = Source(
    name="pku-saferlhf",
    license="cc-by-nc-4.0",
    homepage="https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
    direction="the response that better_response_id or, with --axis safer, safer_response_id names",
    columns=("prompt", "response_0", "response_1"),
    adapt=adapt,
    judgments={"better": "better_response_id", "safer": "safer_response_id"},
    hub="PKU-Alignment/PKU-SafeRLHF",
    hub_files=("data/*/train.jsonl", "data/*/test.jsonl"),
)
