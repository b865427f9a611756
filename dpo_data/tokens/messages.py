"""Conversations as chat templates take them: plain data, in the spellings that templates want."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from dpo_data.records import without_nulls

Message = dict[str, Any]
Messages = list[Message]


#: Fields of a message that hold its reasoning.
REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class Conversation:
    """A conversational pair.

    Attributes:
        prompt: the messages before both responses.
        chosen: the messages of the chosen response.
        rejected: the messages of the rejected response.
        tools: the tools that the conversation may use.
        arguments: variables of the template for this conversation alone.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: list[Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> Iterator[Message]:
        """All messages: of the prompt, of chosen and of rejected."""
        return chain(self.prompt, self.chosen, self.rejected)

    @property
    def continues_message(self) -> bool:
        """Return True if the prompt ends in the beginning of a response, which chosen and rejected continue."""
        if not (self.prompt and self.chosen and self.rejected):
            return False
        start = self.prompt[-1]
        return (
            {message.get("role") for message in (start, self.chosen[0], self.rejected[0])} == {"assistant"}
            and bool(start.get("content"))
            and not start.get("tool_calls")
        )

    def respelled(self, spelling: Callable[[Message], Message]) -> "Conversation":
        """Return the conversation with each message in another spelling."""
        prompt, chosen, rejected = (list(map(spelling, side)) for side in (self.prompt, self.chosen, self.rejected))
        return replace(self, prompt=prompt, chosen=chosen, rejected=rejected)


def stored_conversation(
    prompt: Messages, chosen: Messages, rejected: Messages, tools: Any = None, arguments: Any = None
) -> Conversation:
    """Return a conversation from the columns of a row, in which calls, tools and arguments may be JSON text."""
    return Conversation(
        _plain(prompt), _plain(chosen), _plain(rejected), _from_json(tools) or None, _from_json(arguments) or {}
    )


def _plain(messages: Messages) -> Messages:
    """Return messages without null fields, with parsed calls, and with text contents as text.

    A message has a content, if only an empty one: a third of the public templates fail where it is missing.
    """
    return [
        _with_reasoning_fields(
            {"content": ""} | {name: _plain_field(name, value) for name, value in message.items() if value is not None}
        )
        for message in messages
    ]


def _plain_field(name: str, value: Any) -> Any:
    if name == "tool_calls":
        return _from_json(value)
    return _as_text_alone(without_nulls(value)) if name == "content" else value


def _with_reasoning_fields(message: Message) -> Message:
    """Return a message with its reasoning under both names that templates read, as transformers 5.23 does."""
    reasoning = next((message[name] for name in REASONING_FIELDS if name in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _as_text_alone(content: Any) -> Any:
    """Return the text of a content that is one in parts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return text_of({"content": content})
    return content


def _from_json(value: Any) -> Any:
    return without_nulls(json.loads(value) if isinstance(value, str) and value else value)


def spellings(conversation: Conversation) -> Iterator[Conversation]:
    """Yield a conversation with arguments of calls as objects, then as JSON text, then with contents as parts."""
    if any(message.get("tool_calls") for message in conversation.messages):
        conversation, as_text = map(conversation.respelled, (_with_argument_objects, _with_argument_text))
        yield conversation
        if as_text != conversation:
            yield as_text
    else:
        yield conversation
    yield conversation.respelled(_with_content_parts)


def _with_argument_objects(message: Message) -> Message:
    return _with_arguments(message, _as_object)


def _with_argument_text(message: Message) -> Message:
    return _with_arguments(message, _as_text)


def _with_content_parts(message: Message) -> Message:
    content = message.get("content")
    return message | {"content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def _with_arguments(message: Message, spelling: Callable[[Any], Any]) -> Message:
    """Return a message with another spelling of the arguments of its calls."""

    def respell(call: Any) -> Any:
        if not isinstance(call, Mapping):
            return call
        if isinstance(call.get("function"), Mapping):
            return {**call, "function": respell(call["function"])}
        return {**call, "arguments": spelling(call["arguments"])} if "arguments" in call else call

    calls = message.get("tool_calls")
    return message | {"tool_calls": list(map(respell, calls))} if isinstance(calls, list) and calls else message


def _as_object(arguments: Any) -> Any:
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _as_text(arguments: Any) -> Any:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def joined(start: Message, end: Message) -> Message:
    """Return the message of which one has the beginning and the other the rest."""
    one, other = start["content"], end.get("content") or ""
    if isinstance(one, str) and isinstance(other, str):
        return start | end | {"content": one + other}
    # As one part: templates put something between parts.
    return start | end | {"content": [{"type": "text", "text": text_of(start) + text_of(end)}]}


def text_of(message: Message) -> str:
    """Return the text of a message's content, which may be in parts."""
    content = message.get("content")
    return content if isinstance(content, str) else "".join(texts_of(message))


def texts_of(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a message's content, one for each part."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield part["text"]
