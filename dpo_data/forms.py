"""Prompts and responses in the form that the user asks for: text, or lists of messages.

Text of a dialogue is a transcript as hh-rlhf has it, with the system message before the first turn. It knows nothing of
scores or pairs.
"""

from collections.abc import Sequence

from dpo_data.errors import RowError
from dpo_data.options import Form
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.transcripts import render_turns

ASSISTANT_START = "\n\nAssistant:"


def in_form(responses: ScoredResponses, form: Form) -> ScoredResponses:
    """The same prompt and responses, in that form.

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
            Response(content=convert(r.content, "response"), score=r.score, rank=r.rank, note=r.note, row=r.row)
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
    r"""The transcript of a prompt, up to where the assistant speaks.

    >>> prompt_text([Message(role="system", content="Be kind."), Message(role="user", content="Hi")])
    'Be kind.\n\nHuman: Hi\n\nAssistant:'

    Raises: RowError: no_text_form.
    """
    has_system = bool(messages) and messages[0].role == "system"
    turns = messages[1:] if has_system else messages
    if not turns or turns[-1].role != "user":
        raise RowError("no_text_form", "prompt", "prompt does not end with a user's message.")
    for message in turns:
        _require_plain(message, "prompt")
    system = messages[0].content if has_system else ""
    return system + render_turns((message.role, message.content) for message in turns) + ASSISTANT_START


def response_text(messages: Sequence[Message]) -> str:
    """The text of a response as it follows `prompt_text`, leading space included.

    Raises: RowError: no_text_form.
    """
    if len(messages) != 1 or messages[0].role != "assistant":
        roles = ", ".join(message.role for message in messages) or "nothing"
        raise RowError("no_text_form", "response", f"a response is not one message of the assistant's, but {roles}.")
    _require_plain(messages[0], "response")
    return f" {messages[0].content}"


def _require_plain(message: Message, part: str) -> None:
    if message.role not in ("user", "assistant") or message.tool_calls:
        what = "a call of a tool" if message.tool_calls else f"a message of role {message.role}"
        raise RowError("no_text_form", part, f"the {part} has {what}.")
