"""Reasoning in messages: the markers around a block of thoughts, and where messages keep it."""

from typing import NamedTuple

from dpo_data.tokens.messages import REASONING_FIELDS, Message, text_of


class Markers(NamedTuple):
    """The texts that open and close a block of thoughts."""

    open: str
    close: str


#: The markers that chat templates write.
MARKERS = (
    Markers("<think>", "</think>"),
    Markers("<think:opensource>", "</think:opensource>"),
    Markers("<|channel>thought", "<channel|>"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("<|inner_prefix|>", "<|inner_suffix|>"),
)


def thoughts_of(message: Message) -> str:
    r"""Return the reasoning of a message: a field of its own, or the block that its content begins with; "" if none.

    >>> thoughts_of({"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"})
    '\nTwo and two.\n'
    """
    for field in REASONING_FIELDS:
        if isinstance(message.get(field), str) and message[field]:
            return str(message[field])
    text = text_of(message)
    for markers in MARKERS:
        before, closer, _ = text.partition(markers.close)
        if closer:
            # The opening marker may be in the prompt: models that open the block there answer without it.
            return before.lstrip().removeprefix(markers.open)
    return ""


def without_thoughts(content: str) -> str:
    """Return what a content has behind its last closing marker, or the content if there is none.

    >>> without_thoughts("<think>Two and two.</think>4")
    '4'
    """
    ends = [content.rfind(markers.close) + len(markers.close) for markers in MARKERS if markers.close in content]
    return content[max(ends, default=0) :]
