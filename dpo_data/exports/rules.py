"""Types of columns and rules of readers that several formats share; a path is a column, dotted for a nested one."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from dpo_data.exports.format import Caution, Layout, Rule
from dpo_data.sources.fields import lookup


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        return False
    return isinstance(value.get("content"), str) or (value.get("content") is None and bool(value.get("tool_calls")))


def _is_turn(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) for key in ("from", "value"))


def _is_list(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_item, value))


def _are_objects(value: Any) -> bool:
    """Return True for a list of objects, also as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


#: Type of a column -> test of a value.
TYPES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "number": _is_number,
    "object": lambda value: isinstance(value, Mapping),
    "objects": _are_objects,
    "message": _is_message,
    "messages": lambda value: _is_list(value, _is_message),
    "text or messages": lambda value: isinstance(value, str) or _is_list(value, _is_message),
    "turn": _is_turn,
    "turns": lambda value: _is_list(value, _is_turn),
    "history": lambda value: (
        isinstance(value, list)
        and all(
            isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn) for turn in value
        )
    ),
    "ranked completions": lambda value: _is_list(
        value,
        lambda item: (
            isinstance(item, Mapping) and _is_number(item.get("rank")) and _is_list(item.get("completion"), _is_message)
        ),
    ),
}


def problems(layout: Layout, line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the code and the text of everything that breaks a rule in a line; wrong types come alone."""
    wrong = False
    for column, type_ in (*layout.columns.items(), *layout.optional.items()):
        value = lookup(line, column)
        if value is None:
            if column in layout.columns:
                wrong = True
                yield "missing_field", f"{column} is missing."
        elif not TYPES[type_](value):
            wrong = True
            yield "wrong_type", f"{column} is not {_with_article(type_)}."
    if wrong:
        return
    for rule in layout.rules:
        if (message := rule.check(line)) is not None:
            yield rule.code, message


def _with_article(type_: str) -> str:
    plural = type_.split()[-1].endswith("s")
    return f"a list of {type_}" if plural and " or " not in type_ else f"of type {type_}"


def roles(path: str, allowed: Collection[str], key: str = "role") -> Rule:
    """Return the rule that a message, or each of a list, has one of some roles."""

    def check(line: Mapping[str, Any]) -> str | None:
        found = {message[key] for message in _messages(line, path)} - set(allowed)
        return f"{path} has a message of role {', '.join(sorted(found))}." if found else None

    return Rule("roles", f"messages of `{path}` have the roles {', '.join(allowed)}", check)


def ends_with(path: str, allowed: Collection[str], key: str = "role") -> Rule:
    """Return the rule that the last message has one of some roles."""

    def check(line: Mapping[str, Any]) -> str | None:
        messages = _messages(line, path)
        if not messages or messages[-1][key] in allowed:
            return None
        return f"{path} ends with a message of role {messages[-1][key]}, not {' or '.join(allowed)}."

    return Rule("last_turn", f"`{path}` ends with a message of role {' or '.join(allowed)}", check)


def one_message(path: str) -> Rule:
    """Return the rule that there is exactly one message."""

    def check(line: Mapping[str, Any]) -> str | None:
        count = len(_messages(line, path))
        return None if count == 1 else f"{path} has {count} messages, not one."

    return Rule("one_message", f"`{path}` has exactly one message", check)


def takes_turns(path: str, odd: Collection[str], even: Collection[str], key: str = "role") -> Rule:
    """Return the rule that roles alternate after a system message, and that the last one is of the odd turns."""

    def check(line: Mapping[str, Any]) -> str | None:
        names = [message[key] for message in _messages(line, path)]
        names = names[1:] if names[:1] == ["system"] else names
        for number, name in enumerate(names):
            if name not in (odd, even)[number % 2]:
                return f"{path}: turn {number + 1} is of role {name}, not {' or '.join((odd, even)[number % 2])}."
        return None if len(names) % 2 else f"{path} has {len(names)} turns, not an odd number."

    text = f"`{path}` alternates between {' or '.join(odd)} and {' or '.join(even)}, and begins and ends with the first"
    return Rule("turn_order", f"{text}; a system message may come before", check)


def differ(first: str, second: str) -> Rule:
    """Return the rule that the two responses differ."""

    def check(line: Mapping[str, Any]) -> str | None:
        return f"{first} and {second} are equal." if lookup(line, first) == lookup(line, second) else None

    return Rule("identical", f"`{first}` and `{second}` differ", check)


def not_empty(*paths: str) -> Rule:
    """Return the rule that texts, or the contents of all messages without tool calls, are not empty."""

    def is_empty(value: Any) -> bool:
        if isinstance(value, str):
            return not value
        if isinstance(value, list):
            return any(map(is_empty, value))
        texts = (value.get("content"), value.get("value"))
        return not any(texts) and not value.get("tool_calls")

    def check(line: Mapping[str, Any]) -> str | None:
        empty = [path for path in paths if is_empty(lookup(line, path))]
        return f"{empty[0]} is empty." if empty else None

    return Rule("empty", f"{', '.join(f'`{path}`' for path in paths)} are not empty", check)


def complete_calls(*paths: str) -> Rule:
    """Return the rule of the OpenAI API for tool calls: ids, arguments as text, and answers that name their call."""

    def check(line: Mapping[str, Any]) -> str | None:
        known: set[str] = set()
        for path in paths:
            for message in _messages(line, path):
                for call in message.get("tool_calls") or ():
                    function = call.get("function") if isinstance(call, Mapping) else None
                    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
                        return f"{path}: the arguments of a tool call are not text."
                    if not isinstance(call.get("id"), str):
                        return f"{path}: a tool call has no id."
                    known.add(call["id"])
                if message["role"] == "tool" and message.get("tool_call_id") not in known:
                    return f"{path}: a message of role tool does not name a tool call before it."
        return None

    text = "tool calls have an id and arguments as text, and each message of role tool names the id of its call"
    return Rule("tool_call_ids", text, check)


def edge_space(*paths: str) -> Caution:
    """Return the caution about readers that strip the white space around a response."""
    return Caution(
        "white_space",
        "white space at the beginning or the end of a response is lost, or moves the place where it is cut",
        lambda line: any(text != text.strip() for path in paths for text in _texts(lookup(line, path))),
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for key in ("content", "value") if isinstance(text := value.get(key), str))
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _messages(line: Mapping[str, Any], path: str) -> Sequence[Mapping[str, Any]]:
    """Return the messages at a path; of one message it alone, of a text or of nothing none."""
    value = lookup(line, path)
    if isinstance(value, Mapping):
        return [value]
    return value if isinstance(value, list) else []
