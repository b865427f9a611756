r"""Transcripts in Anthropic's form, "\n\nHuman: ...\n\nAssistant: ...", as turns and back.

A turn starts at a blank line and a role name with a colon, nowhere else: replies hold blank lines and the words "Human:".
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

TURN_START = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {role: speaker for speaker, role in ROLES.items()}


class Turn(NamedTuple):
    """One turn: where it starts in the transcript, who speaks, and the text after the colon, leading space included."""

    start: int
    role: str
    text: str


def parse_turns(transcript: str) -> list[Turn]:
    r"""The turns of a transcript; what stands before the first one belongs to none.

    >>> parse_turns("\n\nHuman: hi\n\nAssistant: hello\n\nI am here.")
    [Turn(start=0, role='user', text=' hi'), Turn(start=11, role='assistant', text=' hello\n\nI am here.')]
    """
    pieces = TURN_START.split(transcript)
    turns = []
    start = len(pieces[0])
    for speaker, text in zip(pieces[1::2], pieces[2::2], strict=True):
        turns.append(Turn(start, ROLES[speaker], text))
        start += len("\n\n:") + len(speaker) + len(text)
    return turns


def render_turns(messages: Sequence[tuple[str, str]]) -> str:
    r"""The transcript of (role, content) messages.

    >>> render_turns([("user", "hi"), ("assistant", "hello")])
    '\n\nHuman: hi\n\nAssistant: hello'
    """
    return "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in messages)
