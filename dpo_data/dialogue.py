"""The two forms of a dialogue, transcripts and messages, and the conversion between them."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from dpo_data.errors import RowError
from dpo_data.options import Form
from dpo_data.records import Content, Message, Response, ScoredResponses

HUMAN_START = "\n\nHuman:"
ASSISTANT_START = "\n\nAssistant:"
TURN_START = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}
SPEAKERS = {role: speaker for speaker, role in ROLES.items()}

_LOOSE_SPEAKERS = {"Human": "user", "HUMAN": "user", "User": "user", "USER": "user"} | {
    "Assistant": "assistant", "ASSISTANT": "assistant",
}  # fmt: skip
#: Starts of turns in transcripts of others than Anthropic: after a blank line, or only after a line break.
_LOOSE_STARTS = tuple(
    re.compile(rf"(?:\A\s*|{line_breaks})(?:###[ ]?)?({'|'.join(_LOOSE_SPEAKERS)}):")
    for line_breaks in (r"\n[ \t\r]*\n", r"\n")
)
_REPLY_START = re.compile(r"\s*(?:###[ ]?)?(?:Assistant|ASSISTANT):[ ]?|[ ]")

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


def transcript_messages(text: str) -> list[Message] | None:
    r"""Return the messages of a prompt that is a transcript, or None if it is not one.

    A transcript begins with a Human turn, or ends with an empty Assistant turn, which only says who speaks next. In the
    second case, a text before the first turn is a system message.

    >>> [(m.role, m.content) for m in transcript_messages("Human: Hi\nAssistant: Hello\nHuman: Who?\nAssistant:")]
    [('user', 'Hi'), ('assistant', 'Hello'), ('user', 'Who?')]
    >>> transcript_messages("Who said this?\nHuman: Hi\nAssistant: Hello")
    """
    if not any(f"{speaker}:" in text for speaker in _LOOSE_SPEAKERS):
        return None
    found = [parsed for start in _LOOSE_STARTS if (parsed := _loose_turns(text, start))]
    if not found:
        return None
    # Blank lines separate turns, if they give a dialogue; otherwise single line breaks may do.
    before, turns = next((parsed for parsed in found if _is_dialogue(parsed[1])), found[0])
    messages = [Message(role="system", content=before)] if before else []
    messages += [Message(role=role, content=content) for role, content in turns]
    return messages if messages[-1].content or messages[-1].role != "assistant" else messages[:-1]


def _loose_turns(text: str, start: re.Pattern[str]) -> tuple[str, list[Turn]] | None:
    """Return the text before the turns and the turns, by role; None if it is not a transcript."""
    before, *pieces = start.split(text)
    turns = [(_LOOSE_SPEAKERS[name], content.strip()) for name, content in zip(pieces[::2], pieces[1::2], strict=True)]
    if not turns or turns[0][0] != "user" or (before.strip() and turns[-1] != ("assistant", "")):
        return None
    return before.strip(), turns


def _is_dialogue(turns: Sequence[Turn]) -> bool:
    return len(turns) > 1 and all(first[0] != second[0] for first, second in pairwise(turns))


def is_transcript(text: str) -> bool:
    """Return True if a text begins with a Human turn."""
    start = _LOOSE_STARTS[0].match(text)
    return start is not None and _LOOSE_SPEAKERS[start[1]] == "user"


def shared_prompt(chosen: str, rejected: str) -> int:
    r"""Return the length of the prompt that two transcripts share, up to the colon of their last Assistant turn, or 0.

    >>> shared_prompt("Human: Hi\n\nAssistant: yes", "Human: Hi\n\nAssistant: yesterday")
    21
    """
    for starts in _LOOSE_STARTS:
        ends = [
            [(found.end(), _LOOSE_SPEAKERS[found[1]]) for found in starts.finditer(text)] for text in (chosen, rejected)
        ]
        end, role = ends[0][-1] if ends[0] else (0, "")
        if role == "assistant" and ends[1] and ends[1][-1] == (end, role) and chosen[:end] == rejected[:end]:
            return end
    return 0


def reply_text(text: str) -> str:
    r"""Return a response to a transcript without the space or the marker that it begins with.

    >>> reply_text(" Hello"), reply_text("\n\nAssistant: Hello")
    ('Hello', 'Hello')
    """
    start = _REPLY_START.match(text)
    return text[start.end() :] if start else text


def in_form(responses: ScoredResponses, form: Form) -> ScoredResponses:
    """Return the same prompt and responses in a form.

    Raises: RowError: no_text_form, where text would lose a role, a tool or the border between two messages.
    """
    if form == "text" and responses.tools:
        raise RowError("no_text_form", "tools", "the dialogue comes with tools.")
    native = str if form == "text" else list
    if all(isinstance(content, native) for content in (responses.prompt, *(r.content for r in responses.responses))):
        return responses
    originals = [response.content for response in responses.responses]
    if form == "text":
        return _with_contents(responses, *_as_texts(responses.prompt, originals))
    return _with_contents(responses, *as_messages(responses.prompt, originals))


def _with_contents(responses: ScoredResponses, prompt: Content, contents: Sequence[Content]) -> ScoredResponses:
    replaced = [
        Response(content=content, score=r.score, rank=r.rank, reason=r.reason, row=r.row)
        for r, content in zip(responses.responses, contents, strict=True)
    ]
    return ScoredResponses(prompt=prompt, responses=replaced, tools=responses.tools)


def as_messages(prompt: Content, responses: Iterable[Content]) -> tuple[list[Message], list[list[Message]]]:
    """Return a prompt and responses as messages: a text is one turn, unless the prompt is a transcript of several."""
    turns = transcript_messages(prompt) if isinstance(prompt, str) else None
    clean = reply_text if turns and turns[-1].role == "user" else str
    if isinstance(prompt, str):
        prompt = turns or [Message(role="user", content=prompt)]
    return prompt, [
        [Message(role="assistant", content=clean(content))] if isinstance(content, str) else content
        for content in responses
    ]


def _as_texts(prompt: Content, responses: Iterable[Content]) -> tuple[str, list[str]]:
    return (
        prompt if isinstance(prompt, str) else prompt_text(prompt),
        [content if isinstance(content, str) else response_text(content) for content in responses],
    )


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
    what = f"a message of role {message.role}" if message.role not in ("user", "assistant") else ""
    what = "reasoning" if message.reasoning_content or message.thinking else what
    what = "a tool call" if message.tool_calls else what
    if what:
        raise RowError("no_text_form", part, f"the {part} has {what}.")
