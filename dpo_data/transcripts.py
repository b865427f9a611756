r"""Transcripts in Anthropic's form, "\n\nHuman: ...\n\nAssistant: ...", as turns and back.

A turn starts at a blank line and a role name with a colon, nowhere else: replies hold blank lines and "Human:" too.
"""

import re
from collections.abc import Iterable, Sequence

TURN_START = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {role: speaker for speaker, role in ROLES.items()}

#: Who speaks, and the text after the colon, leading space included. A plain tuple: these are made by the million.
Turn = tuple[str, str]


def parse_turns(transcript: str) -> tuple[str, list[Turn]]:
    r"""What stands before the first turn, and the turns.

    >>> parse_turns("\n\nHuman: hi\n\nAssistant: hello\n\nI am here.")
    ('', [('Human', ' hi'), ('Assistant', ' hello\n\nI am here.')])
    """
    before, *pieces = TURN_START.split(transcript)
    return before, list(zip(pieces[::2], pieces[1::2], strict=True))


def text_start(turns: Sequence[Turn], position: int) -> int:
    r"""The index, in the transcript, of the text of the turn at `position`.

    >>> text_start([("Human", " hi"), ("Assistant", " hello")], 1) == len("\n\nHuman: hi\n\nAssistant:")
    True
    """
    markers = sum(len("\n\n:") + len(speaker) for speaker, _ in turns[: position + 1])
    return markers + sum(len(text) for _, text in turns[:position])


def render_turns(messages: Iterable[tuple[str, str]]) -> str:
    r"""The transcript of (role, content) messages.

    >>> render_turns([("user", "hi"), ("assistant", "hello")])
    '\n\nHuman: hi\n\nAssistant: hello'
    """
    return "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in messages)
