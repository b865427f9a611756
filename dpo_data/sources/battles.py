"""Adapter shared by the sources in which two models talk to one person and a judge names the winner."""

from dpo_data.records import Message, ScoredResponses
from dpo_data.sources.fields import Row, required, required_choice
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import require_response, signed_preference, unscored

#: Value of `winner` -> by how much B is better.
WINNERS = {"model_a": -1.0, "model_b": 1.0, "tie": 0.0, "tie (inconsistent)": 0.0}
#: Values of `winner` with which the judge rejects both answers.
BOTH_BAD = ("tie (bothbad)", "both_bad")


def battle(row: Row, turns: int | None = None) -> ScoredResponses:
    """Return the last replies of two dialogues; the row is left out if their histories differ or both are bad.

    Args:
        row: the raw row.
        turns: number of questions, with their replies, that the judge saw; None for all.

    Raises: RowError: missing_field, wrong_type, no_response.
    """
    winner = required_choice(row, "winner", (*WINNERS, *BOTH_BAD))
    a, b = (_first_turns(messages(required(row, side), side), turns) for side in ("conversation_a", "conversation_b"))
    for side, dialogue in (("conversation_a", a), ("conversation_b", b)):
        require_response(side, dialogue[-1:])
    if a[:-1] != b[:-1]:
        return unscored(a[:-1], a[-1:], b[-1:], "histories_differ")
    if winner in BOTH_BAD:
        return unscored(a[:-1], a[-1:], b[-1:], "both_bad")
    return signed_preference(a[:-1], a[-1].content, b[-1].content, WINNERS[winner])


def _first_turns(dialogue: list[Message], turns: int | None) -> list[Message]:
    return dialogue if turns is None else dialogue[: 2 * turns]
