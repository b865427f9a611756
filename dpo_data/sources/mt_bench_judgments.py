"""lmsys/mt_bench_human_judgments: two models answer the questions of MT-bench, and a judge names the winner of a turn.

An evaluation set: its rows go to the test split unless --train-on-eval is given. Both dialogues are truncated after the
judged turn. In turn 2 the two histories have different first replies and no shared prompt, so such rows are left out.
Several judges rate the same pair, so contradictions are to be expected.
Columns as in the dataset card.
"""

from dpo_data.errors import RowError
from dpo_data.records import ScoredResponses
from dpo_data.sources.battles import battle
from dpo_data.sources.fields import Row, required_number
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both replies of the judged turn.

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
    direction="winner names model_a or model_b; tie is a tie",
    columns=("winner", "conversation_a", "conversation_b", "turn"),
    adapt=adapt,
    # chatbot-arena also has these columns, and language and tstamp.
    looks_like=lambda row: "question_id" in row and "language" not in row and "tstamp" not in row,
    has_scores=True,
    eval_only=True,
    hub="lmsys/mt_bench_human_judgments",
    hub_files=("data/human-*.parquet",),
)
