"""The same speaker twice in a row."""

from itertools import pairwise
from operator import eq

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import FIELDS, ConversationalPair, PreferencePair
from dpo_data.transcripts import TURN_START

MAY_REPEAT = ("tool", "system")


def find(pair: PreferencePair) -> Finding | None:
    r"""Whether one side has two turns of one speaker in a row; tool results and system messages may follow each other.

    >>> from dpo_data.records import TextPair
    >>> find(TextPair(prompt="\n\nHuman: hi\n\nHuman: you?\n\nAssistant:", chosen=" Yes", rejected=" No")).message
    'prompt has two Human turns in a row.'
    """
    if isinstance(pair, ConversationalPair):
        prompt = [message.role for message in pair.prompt]
        responses = [[message.role for message in response] for response in (pair.chosen, pair.rejected)]
    else:
        prompt = TURN_START.findall(pair.prompt)
        # Few responses hold a further turn, and looking for a blank line costs next to nothing.
        responses = [TURN_START.findall(text) if "\n\n" in text else [] for text in (pair.chosen, pair.rejected)]
    # A response continues the prompt's last turn.
    for field, roles in zip(FIELDS, (prompt, *(prompt[-1:] + response for response in responses)), strict=True):
        if any(map(eq, roles, roles[1:])):
            repeated = [role for role, following in pairwise(roles) if role == following and role not in MAY_REPEAT]
            if repeated:
                return Finding(field, f"{field} has two {repeated[0]} turns in a row.")
    return None


REPEATED_ROLE = RowCheck(
    code="repeated_role",
    severity="warning",
    summary="one speaker has two turns in a row",
    hint="Chat templates may refuse it, and text forms may hide a lost turn: look at the row.",
    find=find,
)
