"""THU-KEG/RM-Bench: a prompt with three correct and three incorrect answers, each in three styles.

An evaluation set of reward models: its rows go to the test split unless --train-on-eval is given. Every correct answer
is paired with every incorrect one, as RM-Bench compares them; --max-pairs-per-prompt takes fewer.
Columns as in the README and the data files of the project.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required_text
from dpo_data.sources.preference_lists import answers, are_lists, crossed
from dpo_data.sources.responses import user_prompt
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> list[ScoredResponses]:
    """Return each correct answer with each incorrect one.

    Raises: RowError: missing_field, wrong_type.
    """
    return crossed(user_prompt(required_text(row, "prompt")), answers(row, "chosen"), answers(row, "rejected"))


SOURCE = Source(
    name="rm-bench",
    license="unknown",
    homepage="https://huggingface.co/datasets/THU-KEG/RM-Bench",
    direction="each answer in chosen over each one in rejected",
    columns=("prompt", "chosen", "rejected"),
    adapt=adapt,
    looks_like=lambda row: are_lists(row) and "id" in row and ("domain" in row or "subset" in row),
    eval_only=True,
    tested_on="798 real rows (data/{chat,code,safety-refuse,safety-response}_filtered.json) and golden rows",
)
