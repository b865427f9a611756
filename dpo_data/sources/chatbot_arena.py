"""lmsys/chatbot_arena_conversations: people talk to two unnamed models at once and vote.

Ties of both kinds, "tie" and "tie (bothbad)", are ties. After the first turn the two histories differ, so that longer
talks have no common prompt: they are left out and counted. The data may hold personal details. The later
arena-human-preference sets have a form that nothing here confirms, and are left out.
Columns as in the card; the files on the hub ask for an account that accepted their terms.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.battles import battle
from dpo_data.sources.fields import Row
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Both last replies.

    Raises: RowError: missing_field, wrong_type, no_response.
    """
    return battle(row)


SOURCE = Source(
    name="chatbot-arena",
    license="cc",
    homepage="https://huggingface.co/datasets/lmsys/chatbot_arena_conversations",
    direction="winner names model_a or model_b; anything else is a tie",
    columns=("question_id", "winner", "conversation_a", "conversation_b", "language"),
    adapt=adapt,
    has_scores=True,
    hub="lmsys/chatbot_arena_conversations",
    hub_files=("data/train-*.parquet",),
)
