"""lmsys/chatbot_arena_conversations: people talk to two anonymous models at once and vote for one of them.

Both "tie" and "tie (bothbad)" are ties. After the first turn the two histories differ, so longer conversations have no
shared prompt; they are left out and counted. The data may contain personal information. The layout of the later
arena-human-preference datasets could not be confirmed, so they are not supported.
Columns as in the dataset card. The files on the Hub are gated: log in with an account that has accepted the terms.
"""

from dpo_data.records import ScoredResponses
from dpo_data.sources.battles import battle
from dpo_data.sources.fields import Row
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both last replies.

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
