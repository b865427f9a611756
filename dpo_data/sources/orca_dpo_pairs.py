"""Intel/orca_dpo_pairs, and argilla/distilabel-intel-orca-dpo-pairs, which judged its pairs again.

Intel's chosen is always the bigger model's answer: it teaches style as much as quality. argilla's form says `input`
instead of `question` and adds a `status`: in a row with status "tie" the judge saw no difference. Its ratings are not
used: `rating` lists them in the order of the judging, and chosen_score has no partner. The card's own filter
(chosen_score of at least 8, not in GSM8K's training set) is left to the user.
Columns as in LLaMA-Factory's data/dataset_info.json and in the card of argilla's form.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, optional_text, required_text
from dpo_data.sources.responses import preferred, question, signed_preference
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The pair.

    Raises: RowError: missing_field, wrong_type.
    """
    asked = required_text(row, "input" if "input" in row else "question")
    prompt = question(asked, optional_text(row, "system"))
    chosen, rejected = required_text(row, "chosen"), required_text(row, "rejected")
    if row.get("status") == "tie":
        return signed_preference(prompt, chosen, rejected, 0.0)
    return preferred(prompt, chosen, rejected)


SOURCE = Source(
    name="orca-dpo-pairs",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/Intel/orca_dpo_pairs",
    direction="chosen is the bigger model's answer; in argilla's form the judge's choice",
    columns=("system", "chosen", "rejected"),
    adapt=adapt,
    optional=("question", "input", "status"),
    looks_like=lambda row: "question" in row or ("input" in row and "status" in row),
    hub="Intel/orca_dpo_pairs",
    hub_files=("*.jsonl",),
)
