"""The start of the response in a rendered conversation, also when the template renders thinking differently.

A chat template renders the prompt alone (with the generation prompt) and the whole conversation. Thinking models open
a block of thoughts in the generation prompt, and many of their templates write another block, or none, before the
response itself. The two renderings are compared at those markers only, never at text of the data: an answer that
begins like the prompt's end would move.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dpo_data.tokens.coverage import without_whitespace
from dpo_data.tokens.thoughts import MARKERS, Markers

_AT_END = {
    markers: re.compile(rf"(?P<open>{re.escape(markers.open)})?\s*(?P<close>{re.escape(markers.close)})?\s*\Z")
    for markers in MARKERS
}
_AT_START = {
    markers: re.compile(rf"\s*(?P<open>{re.escape(markers.open)})?\s*(?P<close>{re.escape(markers.close)})?")
    for markers in MARKERS
}
#: Characters at the end of a prompt that its block of thoughts, which is empty, can take.
_BLOCK_CHARS = 200

#: How a response was separated from its prompt.
#:     exact   the whole conversation begins with the prompt
#:     graft   the response follows the prompt's block of thoughts, without its own copy of what the prompt has
#:     splice  the template leaves out the reasoning of the data: it is put back, behind the prompt's opening marker
#:     head    the prompt ends before its block of thoughts
Method = Literal["exact", "graft", "splice", "head"]


@dataclass(frozen=True)
class Alignment:
    """A prompt and its two responses, as text.

    Attributes:
        prompt: what both responses follow.
        chosen: the chosen response.
        rejected: the rejected response.
        methods: how the two responses were separated from the prompt.
        left_out: with "head", the end of the generation prompt that the prompt is without.
        block: the end of the prompt that opens, or opens and closes, a block of thoughts.
    """

    prompt: str
    chosen: str
    rejected: str
    methods: tuple[Method, Method]
    left_out: str = ""
    block: str = ""

    @property
    def closes_at_once(self) -> bool:
        """Return True if the prompt opens a block of thoughts and a response closes it without any."""
        return any(
            method == "graft" and self.block and response.startswith(tuple(markers.close for markers in MARKERS))
            for method, response in zip(self.methods, (self.chosen, self.rejected), strict=True)
        )


class _Block(NamedTuple):
    """The block of thoughts at the end of a generation prompt."""

    markers: Markers
    start: int
    is_closed: bool


def align(prompt: str, chosen: str, rejected: str, thoughts: tuple[str, str] = ("", "")) -> Alignment | None:
    r"""Return the prompt and the responses of two rendered conversations, or None if they have no common prompt.

    Args:
        prompt: the template over the prompt, with the generation prompt.
        chosen: the template over prompt and chosen response.
        rejected: the template over prompt and rejected response.
        thoughts: the reasoning of the two responses in the data.

    >>> align("<user>Hi<bot>", "<user>Hi<bot>Hello.", "<user>Hi<bot>Go.").chosen
    'Hello.'
    >>> aligned = align("<user>Hi<bot><think>\n", "<user>Hi<bot>Hello.", "<user>Hi<bot>Go.")
    >>> aligned.prompt, aligned.chosen, aligned.left_out
    ('<user>Hi<bot>', 'Hello.', '<think>\n')
    """
    wholes = (chosen, rejected)
    block = _block_at_end(prompt)
    if block is None:
        if not all(whole.startswith(prompt) for whole in wholes):
            return None
        return Alignment(prompt, chosen[len(prompt) :], rejected[len(prompt) :], ("exact", "exact"))
    head, opening = prompt[: block.start], prompt[block.start :]
    if not all(whole.startswith(head) for whole in wholes):
        return None
    one, other = (_separate(prompt, whole, block, own) for whole, own in zip(wholes, thoughts, strict=True))
    methods = (one.method, other.method)
    if "head" not in methods:
        return Alignment(prompt, one.response, other.response, methods, block=opening)
    # One prompt for both: what the other side has behind the whole prompt moves into its response.
    one, other = (
        side if side.method == "head" else side._replace(response=opening + side.response) for side in (one, other)
    )
    return Alignment(head, one.response, other.response, methods, left_out=opening)


class _Separated(NamedTuple):
    response: str
    method: Method


def _separate(prompt: str, whole: str, block: _Block, thoughts: str) -> _Separated:
    """Return what follows the prompt in a conversation that begins with the prompt up to its block of thoughts."""
    if whole.startswith(prompt):
        return _Separated(whole[len(prompt) :], "exact")
    rest = whole[block.start :]
    lead = _AT_START[block.markers].match(rest)
    opens, closes = (lead["open"], lead["close"]) if lead else (None, None)
    if lead and closes:
        if not block.is_closed:
            return _Separated(rest[lead.start("close") :], "graft")
        return _Separated(_behind(rest[lead.end() :], prompt), "graft")
    if not opens:
        if block.is_closed:
            return _Separated(rest, "graft")
        if thoughts.strip() and without_whitespace(thoughts) not in without_whitespace(rest):
            return _Separated(f"{thoughts.strip()}\n{block.markers.close}\n\n{rest.lstrip()}", "splice")
    elif lead and not block.is_closed:
        return _Separated(_behind(rest[lead.end("open") :], prompt), "graft")
    return _Separated(rest, "head")


def _behind(text: str, prompt: str) -> str:
    """Return a text without the white space at its start that the prompt ends with already."""
    trailing = prompt[len(prompt.rstrip()) :]
    size = 0
    while size < min(len(trailing), len(text)) and text[size] == trailing[size]:
        size += 1
    return text[size:]


def _block_at_end(prompt: str) -> _Block | None:
    end = len(prompt.rstrip())
    for markers in MARKERS:
        if prompt.endswith((markers.open, markers.close), 0, end):
            # In the end alone: a search through the whole prompt would try every place in it.
            found = _AT_END[markers].search(prompt, max(0, end - _BLOCK_CHARS))
            if found:
                # Not found.start(): white space before a lone closing marker belongs to the prompt.
                start = found.start("open") if found["open"] else found.start("close")
                return _Block(markers, start, found["close"] is not None)
    return None
