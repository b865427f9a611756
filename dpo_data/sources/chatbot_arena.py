"""Chatbot Arena, dialogues: people talk to two anonymous models at once and vote for one of them.

lmsys/chatbot_arena_conversations, lmarena-ai/arena-human-preference-100k and -140k, whose contents are lists of parts;
the 55k set has answers instead of dialogues, see two-answers. "tie" is a tie; where both answers are bad ("tie
(bothbad)", both_bad in 140k), the row is left out. After the first turn the two histories differ, so longer
conversations have no shared prompt; they are left out and counted. The data may contain personal information. The
prompts are CC BY 4.0, the outputs CC BY-NC 4.0.
Columns as in the card of chatbot_arena_conversations and as OpenJury reads 100k and 140k. The files on the Hub are
gated: log in with an account that has accepted the terms.
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
    license="cc-by-nc-4.0",
    homepage="https://huggingface.co/datasets/lmsys/chatbot_arena_conversations",
    direction="winner names model_a or model_b; tie is a tie",
    columns=("winner", "conversation_a", "conversation_b"),
    adapt=adapt,
    # mt-bench-judgments has no language and no tstamp, but names the judged turn.
    looks_like=lambda row: "turn" not in row or "language" in row or "tstamp" in row,
    has_scores=True,
    hub="lmsys/chatbot_arena_conversations",
    hub_files=("data/train-*.parquet",),
)
