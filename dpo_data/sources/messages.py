"""Messages in the notations of other tools: names of roles and keys, contents in parts, lists written as text."""

import ast
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Message
from dpo_data.sources.fields import Row, as_object, json_objects, optional_text, required_text

#: Role in lower case -> role of chat templates. A template leaves out a message of a role that it does not know.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
#: Roles of ShareGPT whose content is a tool call as JSON.
CALL_ROLES = ("function_call", "tool_call")
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
MEDIA_KEYS = ("image", "images", "image_url", "video", "videos", "audio", "audios")
#: Keys of a message that are read, besides `name`, which only the message of a tool keeps; others are ignored.
USED_KEYS = frozenset(
    [
        *(*ROLE_KEYS, *CONTENT_KEYS, *MEDIA_KEYS, "reasoning", "reasoning_content", "thinking"),
        *("tool_calls", "tool_call_id", "function_call", "tools"),
    ]
)
#: Beginning of a list of messages, or of one, that is written as text: JSON, or the repr of Python or NumPy.
WRITTEN = re.compile(rf"\s*(?:\[\s*|array\(\s*\[\s*)?\{{\s*['\"](?:{'|'.join((*ROLE_KEYS, *CONTENT_KEYS))})['\"]\s*:")
#: Key of a role anywhere in such a text: an object without one is a text that holds JSON.
WRITTEN_ROLE = re.compile(rf"['\"](?:{'|'.join(ROLE_KEYS)})['\"]\s*:")
#: A string, or what the repr of NumPy has in place of Python's: calls around values, and no comma between objects.
_NUMPY_REPR = re.compile(
    r"""(?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<gap>\}\s*(?=\{))|(?:np\.\w+|array)\(|,\s*dtype=\w+|\)""",
    re.DOTALL,
)


def written_messages(value: Any, path: str) -> Any:
    """Return the messages that a string is the text of, as in the cells of a CSV file, or those in {"messages": [...]}.

    Any other value is returned unchanged.

    Raises: RowError: wrong_type, if the text begins as messages do but cannot be parsed.
    """
    if isinstance(value, Mapping) and [key for key, item in value.items() if item is not None] == ["messages"]:
        return value["messages"]
    if not isinstance(value, str) or not WRITTEN.match(value) or not WRITTEN_ROLE.search(value):
        return value
    text = value.strip()
    for parse in (json.loads, ast.literal_eval, _from_numpy_repr):
        try:
            parsed = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if _are_messages(parsed) else value
    try:
        json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        raise RowError(
            "wrong_type", path, f"{path} is text that begins as messages do, but it cannot be parsed."
        ) from None
    return value  # a text that begins with messages


def _are_messages(value: Any) -> bool:
    """Return True if every object has a role, and a content or a call; other objects are a text that holds JSON."""
    items = value if isinstance(value, list) else [value]
    return all(
        isinstance(item, Mapping)
        and any(key in item for key in ROLE_KEYS)
        and any(key in item for key in (*CONTENT_KEYS, "tool_calls", "function_call"))
        for item in items
    )


def from_text(value: Any) -> Any:
    """Return the list or object that a string is the JSON or the repr of, or the value itself."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return value


def _from_numpy_repr(text: str) -> Any:
    def as_python(match: re.Match[str]) -> str:
        if match["string"]:
            return match["string"]
        return "}," if match["gap"] else ""

    return ast.literal_eval(_NUMPY_REPR.sub(as_python, text))


def messages(value: Any, path: str) -> list[Message]:
    """Return a list of messages, or one message, in any notation.

    Null fields, which a table adds to every message if one message has them, and unknown keys are ignored.

    Raises: RowError: missing_field, wrong_type, unknown_role or media_content.
    """
    value = written_messages(value, path)
    if isinstance(value, Mapping):
        return [message(value, path)]
    if not isinstance(value, list):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a list of messages.")
    return [message(item, f"{path}.{index}") for index, item in enumerate(value)]


def message(value: Any, path: str) -> Message:
    """Return one message in any notation.

    Raises: RowError: as `messages`.
    """
    fields = as_object(value, path)
    path += "."
    role_key, content_key = (
        next((key for key in keys if fields.get(key) is not None), keys[0]) for keys in (ROLE_KEYS, CONTENT_KEYS)
    )
    role, is_call = _role(_required_text(fields, role_key, path), f"{path}{role_key}")
    for key in MEDIA_KEYS:
        if fields.get(key):
            raise RowError("media_content", f"{path}{key}", f"{path}{key}: only text can be trained on.")
    if is_call:
        text = _required_text(fields, content_key, path)
        return Message(role=role, content="", tool_calls=tool_calls([text], f"{path}{content_key}"))
    calls = json_objects(fields.get("tool_calls"), f"{path}tool_calls")
    if calls is None and fields.get("function_call"):  # of the OpenAI API before tool calls
        call = as_object(fields["function_call"], f"{path}function_call")
        calls = json_objects([{"type": "function", "function": call}], f"{path}function_call")
    content = fields.get(content_key)
    # In the OpenAI format, a message that only calls tools has no content.
    text = (
        ""
        if content is None and calls
        else content_text(content, f"{path}{content_key}", has_key=content_key in fields)
    )
    if len(fields) == 2 and calls is None:
        return Message(role=role, content=text)
    return Message(
        role=role,
        content=text,
        tool_calls=calls,
        tool_call_id=optional_text(fields, "tool_call_id", path) or None,
        name=optional_text(fields, "name", path) or None if role == "tool" else None,
        reasoning_content=optional_text(fields, "reasoning_content", path)
        or optional_text(fields, "reasoning", path)
        or None,
        thinking=optional_text(fields, "thinking", path) or None,
    )


def _role(name: str, path: str) -> tuple[str, bool]:
    """Return a role, and True if the content of its messages is a tool call."""
    lower = name.strip().lower()
    if lower in CALL_ROLES:
        return "assistant", True
    if not lower:
        raise RowError("wrong_type", path, f"{path} is empty.")
    if lower not in ROLES:
        raise RowError("unknown_role", path, f"{path} is {name!r}, which is not a known role.")
    return ROLES[lower], False


def _required_text(fields: Row, key: str, path: str) -> str:
    if fields.get(key) is None:
        state = "null" if key in fields else "missing"
        raise RowError("missing_field", path + key, f"{path}{key} is {state}.")
    return required_text(fields, key, path)


def content_text(value: Any, path: str, *, has_key: bool = True) -> str:
    """Return the content of a message: a string, or the texts of its parts, joined.

    Raises: RowError: missing_field, wrong_type, or media_content for a part that is an image, audio, video or file.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowError("missing_field", path, f"{path} is {'null' if has_key else 'missing'}.")
    if not isinstance(value, list):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a string.")
    return "".join(_part_text(part, f"{path}.{index}") for index, part in enumerate(value))


def _part_text(part: Any, path: str) -> str:
    if isinstance(part, str):
        return part
    fields = as_object(part, path)
    kind = str(fields.get("type") or "text")
    if any(fields.get(key) for key in MEDIA_KEYS) or any(word in kind for word in ("image", "audio", "video", "file")):
        raise RowError("media_content", path, f"{path} is of type {kind}; only text can be trained on.")
    if kind not in ("text", "input_text", "output_text"):
        raise RowError("wrong_type", f"{path}.type", f"{path}.type is {kind!r}, not text.")
    key = next((key for key in ("text", "value", "content") if fields.get(key) is not None), "text")
    return required_text(fields, key, f"{path}.")


def tool_calls(texts: list[str], path: str) -> str | None:
    """Return tool calls, given as JSON {name, arguments}, in the format of chat templates.

    Raises: RowError: wrong_type.
    """
    calls: list[Any] = []
    for text in texts:
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RowError("wrong_type", path, f"{path} is a tool call, but not JSON.") from error
        calls += parsed if isinstance(parsed, list) else [parsed]
    return json_objects([{"type": "function", "function": call} for call in calls], path)


def tools_in(value: Any) -> Any:
    """Return the tools that a message of a list brings along, or None."""
    items = value if isinstance(value, list) else [value]
    return next((item["tools"] for item in items if isinstance(item, Mapping) and item.get("tools")), None)


def ignored_keys(row: Row, columns: Collection[str]) -> Iterator[str]:
    """Yield the path, without positions, of each key that is ignored in the messages of some columns of a row."""
    for column, value in row.items():
        if column not in columns:
            continue
        if isinstance(value, list | Mapping) or (isinstance(value, str) and WRITTEN.match(value)):
            try:
                parsed = written_messages(value, column) if isinstance(value, str) else value
                yield from dict.fromkeys(_ignored_keys(parsed, column))
            except RowError:
                continue


def _ignored_keys(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _ignored_keys(item, path)
    elif isinstance(value, Mapping):
        role = next((value[key] for key in ROLE_KEYS if isinstance(value.get(key), str)), None)
        if role is None:
            for name, nested in value.items():
                if isinstance(nested, list | Mapping):
                    yield from _ignored_keys(nested, f"{path}.{name}")
            return
        for key, content in value.items():
            keeps_name = key == "name" and ROLES.get(role.strip().lower()) == "tool"
            if content is not None and key not in USED_KEYS and not keeps_name:
                yield f"{path}.{key}"
