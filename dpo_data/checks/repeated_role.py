"""The same speaker twice in a row."""

from itertools import pairwise
from operator import eq

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import ConversationalPair, PreferencePair
from dpo_data.transcripts import TURN_START

MAY_REPEAT = ("tool", "system")


def find(pair: PreferencePair) -> Finding | None:
    r"""Whether one side has two turns of one speaker in a row; tool results and system messages may follow each other.

    >>> from dpo_data.records import TextPair
    >>> find(TextPair(prompt="\n\nHuman: hi\n\nHuman: you?\n\nAssistant:", chosen=" Yes", rejected=" No")).message
    'prompt has two Human turns in a row.'
    """
    if isinstance(pair, ConversationalPair):
        prompt_roles = [message.role for message in pair.prompt]
        roles = {
            "prompt": prompt_roles,
            "chosen": [*prompt_roles[-1:], *(message.role for message in pair.chosen)],
            "rejected": [*prompt_roles[-1:], *(message.role for message in pair.rejected)],
        }
    else:
        prompt_roles = TURN_START.findall(pair.prompt)
        # The response continues the prompt's last turn, so that a marker in it is already a second one.
        roles = {
            "prompt": prompt_roles,
            "chosen": [*prompt_roles[-1:], *TURN_START.findall(pair.chosen)],
            "rejected": [*prompt_roles[-1:], *TURN_START.findall(pair.rejected)],
        }
    for field, speakers in roles.items():
        if any(map(eq, speakers, speakers[1:])):
            repeated = [role for role, following in pairwise(speakers) if role == following and role not in MAY_REPEAT]
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
