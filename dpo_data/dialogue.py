"""The two forms of a dialogue, transcripts and messages, and the conversion between them."""

import re
from collections.abc import Iterable, Sequence

from dpo_data.errors import RowError
from dpo_data.options import Form
from dpo_data.records import Content, Message, Response, ScoredResponses

HUMAN_START = "\n\nHuman:"
ASSISTANT_START = "\n\nAssistant:"
TURN_START = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {role: speaker for speaker, role in ROLES.items()}

#: The speaker, and the text after the colon, leading space included. A plain tuple: they are created by the million.
Turn = tuple[str, str]


def parse_turns(transcript: str) -> tuple[str, list[Turn]]:
    r"""Return the text before the first turn, and the turns.

    >>> parse_turns("\n\nHuman: hi\n\nAssistant: hello\n\nI am here.")
    ('', [('Human', ' hi'), ('Assistant', ' hello\n\nI am here.')])
    """
    before, *pieces = TURN_START.split(transcript)
    return before, list(zip(pieces[::2], pieces[1::2], strict=True))


def text_start(turns: Sequence[Turn], position: int) -> int:
    r"""Return the index in the transcript of the text of the turn at `position`.

    >>> text_start([("Human", " hi"), ("Assistant", " hello")], 1) == len("\n\nHuman: hi\n\nAssistant:")
    True
    """
    markers = sum(len("\n\n:") + len(speaker) for speaker, _ in turns[: position + 1])
    return markers + sum(len(text) for _, text in turns[:position])


def render_turns(messages: Iterable[tuple[str, str]]) -> str:
    r"""Return the transcript of (role, content) messages.

    >>> render_turns([("user", "hi"), ("assistant", "hello")])
    '\n\nHuman: hi\n\nAssistant: hello'
    """
    return "".join(f"\n\n{SPEAKERS[role]}: {content}" for role, content in messages)


def in_form(responses: ScoredResponses, form: Form) -> ScoredResponses:
    """Return the same prompt and responses in a form.

    Raises: RowError: no_text_form, where text would lose a role, a tool or the border between two messages.
    """
    if form == "text" and responses.tools:
        raise RowError("no_text_form", "tools", "the dialogue comes with tools.")
    native = str if form == "text" else list
    if all(isinstance(content, native) for content in (responses.prompt, *(r.content for r in responses.responses))):
        return responses
    convert = _as_text if form == "text" else _as_messages
    return ScoredResponses(
        prompt=convert(responses.prompt, "prompt"),
        responses=[
            Response(content=convert(r.content, "response"), score=r.score, rank=r.rank, reason=r.reason, row=r.row)
            for r in responses.responses
        ],
        tools=responses.tools,
    )


def _as_messages(content: Content, part: str) -> list[Message]:
    if isinstance(content, list):
        return content
    return [Message(role="user" if part == "prompt" else "assistant", content=content)]


def _as_text(content: Content, part: str) -> str:
    if isinstance(content, str):
        return content
    return prompt_text(content) if part == "prompt" else response_text(content)


def prompt_text(messages: Sequence[Message]) -> str:
    r"""Return the transcript of a prompt, up to where the assistant begins to speak.

    >>> prompt_text([Message(role="system", content="Be kind."), Message(role="user", content="Hi")])
    'Be kind.\n\nHuman: Hi\n\nAssistant:'

    Raises: RowError: no_text_form.
    """
    has_system = bool(messages) and messages[0].role == "system"
    turns = messages[1:] if has_system else messages
    if not turns or turns[-1].role != "user":
        raise RowError("no_text_form", "prompt", "prompt does not end with a user message.")
    for message in turns:
        _require_plain(message, "prompt")
    system = messages[0].content if has_system else ""
    return system + render_turns((message.role, message.content) for message in turns) + ASSISTANT_START


def response_text(messages: Sequence[Message]) -> str:
    """Return the text of a response as it follows `prompt_text`, leading space included.

    Raises: RowError: no_text_form.
    """
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise RowError("no_text_form", "response", f"a response must be one assistant message, not {roles}.")
    _require_plain(messages[0], "response")
    return f" {messages[0].content}"


def _require_plain(message: Message, part: str) -> None:
    if message.role not in ("user", "assistant") or message.tool_calls:
        what = "a tool call" if message.tool_calls else f"a message of role {message.role}"
        raise RowError("no_text_form", part, f"the {part} has {what}.")
