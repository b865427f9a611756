"""allenai/reward-bench: a prompt, a better answer and a worse one; RewardBench 2 has several worse ones.

An evaluation set of reward models: its rows go to the test split unless --train-on-eval is given. Where a side has
several answers, every better one is paired with every worse one.
Columns as in rewardbench/utils.py and in the cards of both versions.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row, required_text
from dpo_data.sources.preference_lists import answers, crossed
from dpo_data.sources.responses import user_prompt
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> list[ScoredResponses]:
    """Return each better answer with each worse one.

    Raises: RowError: missing_field, wrong_type.
    """
    return crossed(user_prompt(required_text(row, "prompt")), answers(row, "chosen"), answers(row, "rejected"))


def looks_like(row: Row) -> bool:
    """Return True if the row names its subset and the models, as RewardBench does."""
    return "subset" in row and bool({"chosen_model", "models", "num_incorrect"} & set(row))


SOURCE = Source(
    name="reward-bench",
    license="odc-by",
    homepage="https://huggingface.co/datasets/allenai/reward-bench",
    direction="chosen",
    columns=("prompt", "chosen", "rejected"),
    adapt=adapt,
    looks_like=looks_like,
    eval_only=True,
    hub="allenai/reward-bench",
    hub_files=("data/filtered-*.parquet",),
)
