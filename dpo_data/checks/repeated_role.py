"""Two turns of one speaker in a row."""

from collections.abc import Iterator
from itertools import pairwise
from operator import eq

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.dialogue import ASSISTANT_START, HUMAN_START, TURN_START
from dpo_data.records import ConversationalPair, PairTexts, PreferencePair, TextPair

MAY_REPEAT = ("tool", "system")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a speaker has two turns in a row; tool results and system messages may follow each other.

    >>> find(CHECK.example, CHECK.example.texts).message
    'prompt has two Human turns in a row.'
    """
    for field, roles in _roles(pair):
        if any(map(eq, roles, roles[1:])):
            repeated = [role for role, following in pairwise(roles) if role == following and role not in MAY_REPEAT]
            if repeated:
                return Finding(field, f"{field} has two {repeated[0]} turns in a row.")
    return None


def _roles(pair: PreferencePair) -> Iterator[tuple[str, list[str]]]:
    """Yield the roles of the prompt, and those of the last prompt turn and each response.

    A response in text form that has only one turn is skipped.
    """
    if isinstance(pair, ConversationalPair):
        last = pair.prompt[-1].role
        yield "prompt", [message.role for message in pair.prompt]
        yield "chosen", [last, *(message.role for message in pair.chosen)]
        yield "rejected", [last, *(message.role for message in pair.rejected)]
        return
    roles = TURN_START.findall(pair.prompt)
    yield "prompt", roles
    for field, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        if "\n\n" in text and (further := TURN_START.findall(text)):
            yield field, roles[-1:] + further


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows whose prompt has one role marker twice in a row, or whose responses have any."""
    prompt = columns.prompt
    human, assistant = prompt.find(HUMAN_START), prompt.find(ASSISTANT_START)
    markers = np.concatenate([human, assistant])
    order = np.argsort(markers, kind="stable")
    rows, is_human = prompt.rows_of(markers[order]), order < len(human)
    found = columns.chosen.contains(HUMAN_START, ASSISTANT_START) | columns.rejected.contains(
        HUMAN_START, ASSISTANT_START
    )
    found[rows[1:][(rows[1:] == rows[:-1]) & (is_human[1:] == is_human[:-1])]] = True
    return found


CHECK = RowCheck(
    code="repeated_role",
    severity="warning",
    summary="one speaker has two turns in a row",
    hint="Chat templates may reject it, and in a transcript a turn may be missing: check the row.",
    find=find,
    suspects=suspects,
    example=TextPair(
        prompt="\n\nHuman: Hello.\n\nHuman: Who are you?\n\nAssistant:", chosen=" A robot.", rejected=" Go away."
    ),
)
