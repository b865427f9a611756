"""lmsys/mt_bench_human_judgments: two models answer the questions of MT-bench, and a judge names the winner of a turn.

An evaluation set: its rows go to the split test, unless the user asks to train on them. Both dialogues are cut after
the turn that was judged. In turn 2 the two histories hold different first replies, so that there is no common prompt:
such rows are left out. Several judges see one pair, and contradictions are normal.
Columns as in the card.
"""

from dpo_data.errors import RowError
from dpo_data.records import ScoredResponses
from dpo_data.sources.battles import battle
from dpo_data.sources.fields import Row, required_number
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Both replies of the turn that was judged.

    Raises: RowError: missing_field, wrong_type, no_response.
    """
    turn = required_number(row, "turn")
    if turn < 1 or turn % 1:
        raise RowError("wrong_type", "turn", f"turn is {turn:g}, not 1 or 2.")
    return battle(row, int(turn))


SOURCE = Source(
    name="mt-bench-judgments",
    license="cc-by-4.0",
    homepage="https://huggingface.co/datasets/lmsys/mt_bench_human_judgments",
    direction="winner names model_a or model_b; anything else is a tie",
    columns=("question_id", "winner", "conversation_a", "conversation_b", "turn"),
    adapt=adapt,
    # chatbot-arena has these columns too, and a language besides.
    looks_like=lambda row: "language" not in row and "tstamp" not in row,
    has_scores=True,
    eval_only=True,
    hub="lmsys/mt_bench_human_judgments",
    hub_files=("data/human-*.parquet",),
)
