"""allenai/llama-3.1-tulu-3-8b-preference-mixture and similar mixtures: two dialogues that differ in the last reply.

A row whose dialogues differ earlier is quarantined. The columns of tulu-2.5 differ and could not be confirmed, so it is
not supported.
Columns as read by NeMo-RL's tulu3.py.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.fields import Row
from dpo_data.sources.responses import preferred, shared_dialogue
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    return preferred(*shared_dialogue(row, "chosen", "rejected"))


def looks_like(row: Row) -> bool:
    """Return True if the sides are dialogues and the row has the mixture's other columns."""
    dialogues = isinstance(row["chosen"], list) and isinstance(row["rejected"], list)
    return dialogues and all(column in row for column in ("id", "source", "prompt"))


SOURCE = Source(
    name="tulu3-preference",
    license="odc-by",
    homepage="https://huggingface.co/datasets/allenai/llama-3.1-tulu-3-8b-preference-mixture",
    direction="chosen",
    columns=("chosen", "rejected"),
    adapt=adapt,
    optional=("prompt",),
    looks_like=looks_like,
    hub="allenai/llama-3.1-tulu-3-8b-preference-mixture",
    hub_files=("data/train-*.parquet",),
)
