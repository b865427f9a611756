"""PKU-Alignment/PKU-SafeRLHF: two responses judged twice, which one is better and which one is safer.

The two judgements often disagree, so that the axis is the user's to name. The license forbids commercial use. The older
revision round0 has fewer columns, with those read here among them.
Columns as in the card.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required_choice, required_text
from dpo_data.sources.responses import preferred, question
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The pair along the axis.

    Raises: RowError: missing_field, wrong_type.
    """
    chosen = required_choice(row, f"{options.axis}_response_id", (0, 1))
    sides = [required_text(row, f"response_{side}") for side in (chosen, 1 - chosen)]
    return preferred(question(required_text(row, "prompt")), sides[0], sides[1])


SOURCE = Source(
    name="pku-saferlhf",
    license="cc-by-nc-4.0",
    homepage="https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF",
    direction="the response that better_response_id or, with --axis safer, safer_response_id names",
    columns=("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
    adapt=adapt,
    axes=("better", "safer"),
    hub="PKU-Alignment/PKU-SafeRLHF",
    hub_files=("data/*/train.jsonl", "data/*/test.jsonl"),
)
