"""allenai/llama-3.1-tulu-3-8b-preference-mixture, and the mixtures of its kind: two dialogues that share their start.

A row whose dialogues differ before the last reply goes to quarantine; NeMo-RL's loader asserts instead, and one such
row ends its run. tulu-2.5 has other columns that nothing here confirms, and is left out.
Columns as read by NeMo-RL's tulu3.py.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row
from dpo_data.sources.responses import preferred, shared_dialogue
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The pair.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    return preferred(*shared_dialogue(row, "chosen", "rejected"))


SOURCE = Source(
    name="tulu3-preference",
    license="odc-by",
    homepage="https://huggingface.co/datasets/allenai/llama-3.1-tulu-3-8b-preference-mixture",
    direction="chosen",
    columns=("id", "source", "prompt", "chosen", "rejected"),
    adapt=adapt,
    looks_like=lambda row: isinstance(row["chosen"], list) and isinstance(row["rejected"], list),
    hub="allenai/llama-3.1-tulu-3-8b-preference-mixture",
    hub_files=("data/train-*.parquet",),
)
