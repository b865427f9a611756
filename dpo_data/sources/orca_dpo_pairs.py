"""Intel/orca_dpo_pairs, and argilla/distilabel-intel-orca-dpo-pairs, which judged its pairs again.

In Intel's dataset chosen is always the answer of the larger model, so it teaches style as much as quality. argilla's
dataset has `input` instead of `question`, and a `status` that is "tie" if the judge saw no difference. Its ratings are
not used: `rating` has them in the order of judging, and chosen_score has no counterpart. The filter of its card
(chosen_score of at least 8, not in GSM8K's training set) is not applied.
Columns as in LLaMA-Factory's data/dataset_info.json and in the card of argilla's dataset.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_text, required_text
from dpo_data.sources.responses import preferred, signed_preference, user_prompt
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses.

    Raises: RowError: missing_field, wrong_type.
    """
    question = required_text(row, "input" if "input" in row else "question")
    prompt = user_prompt(question, optional_text(row, "system"))
    chosen, rejected = required_text(row, "chosen"), required_text(row, "rejected")
    if row.get("status") == "tie":
        return signed_preference(prompt, chosen, rejected, 0.0)
    return preferred(prompt, chosen, rejected)


SOURCE = Source(
    name="orca-dpo-pairs",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/Intel/orca_dpo_pairs",
    direction="chosen is the larger model's answer; in argilla's dataset the judge's choice",
    columns=("system", "chosen", "rejected"),
    adapt=adapt,
    optional=("question", "input", "status"),
    looks_like=lambda row: "question" in row or ("input" in row and "status" in row),
    hub="Intel/orca_dpo_pairs",
    hub_files=("*.jsonl",),
)
