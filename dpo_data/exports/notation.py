"""Messages in the notations of other programs."""

import json
from collections.abc import Sequence
from typing import Any

from dpo_data.records import ConversationalPair, Message, PreferencePair

#: Role of chat templates -> role of ShareGPT.
SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def content(value: str | list[Message], *, reasoning: bool = True) -> Any:
    """Return a text as it is, and messages in the notation of chat templates."""
    return value if isinstance(value, str) else [chat_message(message, reasoning=reasoning) for message in value]


def chat_message(message: Message, *, reasoning: bool = True) -> dict[str, Any]:
    """Return a message in the notation of chat templates: role, content, and what else it has.

    Args:
        message: the message.
        reasoning: keep the reasoning.
    """
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = json.loads(message.tool_calls)
    for name in ("tool_call_id", "name", *(("reasoning_content", "thinking") if reasoning else ())):
        if getattr(message, name):
            fields[name] = getattr(message, name)
    return fields


def plain_message(message: Message) -> dict[str, str]:
    """Return the role and the content of a message."""
    return {"role": message.role, "content": message.content}


def sharegpt_turn(message: Message) -> dict[str, str]:
    """Return a message as {from, value}; a tool call is the JSON of its name and arguments."""
    if message.tool_calls:
        return {"from": "function_call", "value": calls_text(message.tool_calls)}
    return {"from": SHAREGPT_ROLES.get(message.role, message.role), "value": message.content}


def calls_text(tool_calls: str) -> str:
    """Return tool calls as the JSON of {name, arguments}: of one call the object, of several the list."""
    calls = [call.get("function", call) for call in json.loads(tool_calls)]
    return json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)


def messages_of(value: str | list[Message]) -> Sequence[Message]:
    """Return messages; of a layout that holds conversations only, a text never comes here.

    Raises: TypeError: it is a text.
    """
    if isinstance(value, str):
        raise TypeError("a text in a layout of conversations")
    return value


def context(pair: PreferencePair, *, arguments: bool = True) -> dict[str, Any]:
    """Return the columns tools (as JSON) and chat_template_kwargs of a conversation that has them.

    The tools are text, because `datasets` gives all tools of a file the keys of each other, as nulls.
    """
    if not isinstance(pair, ConversationalPair):
        return {}
    found: dict[str, Any] = {"tools": pair.tools} if pair.tools else {}
    if arguments and pair.chat_template_kwargs:
        found["chat_template_kwargs"] = json.loads(pair.chat_template_kwargs)
    return found


def arguments_as_text(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the OpenAI API, whose tool calls have their arguments as text."""
    for call in message.get("tool_calls") or ():
        function = call.get("function")
        if isinstance(function, dict) and not isinstance(function.get("arguments"), str):
            function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return message
