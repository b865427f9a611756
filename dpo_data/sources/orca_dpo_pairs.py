"""Intel/orca_dpo_pairs, and argilla/distilabel-intel-orca-dpo-pairs, which judged its pairs again.

In Intel's dataset chosen is always the answer of the larger model, so it teaches style as much as quality; its first
revision calls the answers chatgpt and llama2-13b-chat. argilla's dataset has `input` instead of `question`, and a
`status` that is "tie" if the judge saw no difference. Its ratings are not used: `rating` has them in the order of
judging, and chosen_score has no counterpart. The filter of its card is
--where 'status != "tie" and chosen_score >= 8 and not in_gsm8k_train'.
axolotl reads any dataset with these columns with its types chatml.intel (question) and chatml.icr (input).
Columns as in LLaMA-Factory's data/dataset_info.json, axolotl's dpo/chatml.py and the card of argilla's dataset.
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
    first_revision = "chatgpt" in row and "chosen" not in row
    chosen, rejected = (
        required_text(row, side)
        for side in (("chatgpt", "llama2-13b-chat") if first_revision else ("chosen", "rejected"))
    )
    if row.get("status") == "tie":
        return signed_preference(prompt, chosen, rejected, 0.0)
    return preferred(prompt, chosen, rejected)


def looks_like(row: Row) -> bool:
    """Return True if there is a system prompt or a status, and the answers are texts."""
    texts = all(isinstance(row.get(side), str | None) for side in ("chosen", "rejected"))
    return texts and ("system" in row or "status" in row) and not {"instruction", "history", "prompt"} & set(row)


SOURCE = Source(
    name="orca-dpo-pairs",
    license="apache-2.0",
    homepage="https://huggingface.co/datasets/Intel/orca_dpo_pairs",
    direction="chosen is the larger model's answer; in argilla's dataset the judge's choice",
    columns=(),
    layouts=(
        ("question", "chosen", "rejected"),
        ("input", "chosen", "rejected"),
        ("question", "chatgpt", "llama2-13b-chat"),
    ),
    adapt=adapt,
    optional=("system", "status"),
    looks_like=looks_like,
    hub="Intel/orca_dpo_pairs",
    hub_files=("*.jsonl",),
    tested_on="golden rows in the layout of a real row",
)
