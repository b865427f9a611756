"""Nothing of a conversation may get lost in its rendering: contents, reasoning, tool calls and their arguments.

Texts are compared without white space, which templates add and strip.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dpo_data.tokens.messages import Message, Messages, text_of, texts_of
from dpo_data.tokens.thoughts import thoughts_of, without_thoughts

#: Codes of what a template leaves out: the first two refuse a pair, the others are counted.
DROPS_CONTENT = "template_drops_content"
DROPS_MESSAGE = "template_drops_message"
REASONING_DROPPED = "reasoning_dropped"
TOOLS_DROPPED = "tools_dropped"
#: A content in parts that a template, which expects text, writes out with brackets and quotes.
WRITTEN_AS_DATA = "written_as_data"

#: Characters of arguments that are encoded twice: enough for a brace, a quote and the begin of a name.
_DOUBLE_CHARS = 12
#: Characters below which a content may be in a text by chance.
_SHORT_CHARS = 8
#: How templates escape a text that they put into JSON, HTML or Python literals.
_JSON_ESCAPES = str.maketrans({"'": r"\u0027", "<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


class Loss(NamedTuple):
    """Content that a rendering lacks.

    Attributes:
        code: one of the codes above.
        text: what is missing.
        place: where it comes from in the data, such as "content of message 2 (user)".
    """

    code: str
    text: str
    place: str


def without_whitespace(text: str) -> str:
    r"""Return a text without any white space.

    >>> without_whitespace("a\n b")
    'ab'
    """
    return "".join(text.split())


def is_short(message: Message) -> bool:
    """Return True if a message has a content that may be in a text by chance."""
    return 0 < len(text_of(message).strip()) < _SHORT_CHARS


class Rendered:
    """A rendered text in which the parts of messages are looked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._dense: str | None = None

    @property
    def dense(self) -> str:
        """The text without white space, made when it is first needed: most contents are found as they are."""
        if self._dense is None:
            self._dense = without_whitespace(self.text)
        return self._dense

    def has(self, part: str) -> bool:
        """Return True if the text has a part, apart from white space and from the escapes of JSON and HTML."""
        return part in self.text or any(without_whitespace(spelled) in self.dense for spelled in _spellings(part))


def lost_from_response(text: str, messages: Messages) -> list[Loss]:
    """Return what a rendered response is without of the messages that it was rendered from.

    Args:
        text: the response, with the block of thoughts that the prompt ends with.
        messages: of the response.
    """
    rendered = Rendered(text)
    losses: list[Loss] = []
    for number, message in enumerate(messages, 1):
        losses += _lost(rendered, message, f"message {number} of the response", DROPS_CONTENT)
        thoughts = thoughts_of(message)
        if thoughts.strip() and not rendered.has(thoughts):
            losses.append(Loss(REASONING_DROPPED, thoughts, f"reasoning of message {number} of the response"))
    return losses


def lost_from_prompt(text: str, messages: Messages, tools: Sequence[Any] | None = None) -> list[Loss]:
    """Return what a rendered prompt is without of its messages and tools; reasoning in it may be left out."""
    rendered = Rendered(text)
    losses: list[Loss] = []
    for number, message in enumerate(messages, 1):
        losses += _lost(rendered, message, f"message {number} of the prompt", DROPS_MESSAGE)
    names = [name for tool in tools or () if (name := _name(tool))]
    if names and not any(rendered.has(name) for name in names):
        losses.append(Loss(TOOLS_DROPPED, ", ".join(names), "tools"))
    return losses


def _lost(rendered: Rendered, message: Message, place: str, code: str) -> Iterator[Loss]:
    """Yield what a text is without of a message's content and calls."""
    place = f"{place} ({message.get('role')})"
    for content in texts_of(message):
        # A block of thoughts is missing as reasoning, not as content.
        if not rendered.has(content) and not _has_answer(rendered, content):
            yield Loss(code, content, f"content of {place}")
    parts = message.get("content")
    if isinstance(parts, list) and any(without_whitespace(f(parts)) in rendered.dense for f in (str, json.dumps)):
        yield Loss(WRITTEN_AS_DATA, str(parts), place)
    for call in message.get("tool_calls") or ():
        name, arguments = _name(call), _arguments(call)
        if name and not rendered.has(name):
            yield Loss(code, name, f"tool call of {place}")
        elif isinstance(arguments, Mapping):
            missing = next((leaf for leaf in _leaves(arguments) if not _has_leaf(rendered, leaf)), None)
            if missing is not None:
                yield Loss(code, str(missing), f"argument of {name} in {place}")
            elif _is_encoded_twice(rendered, arguments):
                yield Loss(code, json.dumps(arguments), f"arguments of {name} in {place}, encoded as JSON twice")
        elif arguments and not rendered.has(str(arguments)):
            yield Loss(code, str(arguments), f"arguments of {name} in {place}")


def _has_answer(rendered: Rendered, content: str) -> bool:
    answer = without_thoughts(content)
    return answer != content and rendered.has(answer)


def _name(tool: Any) -> str:
    """Return the name of a tool, or of the tool that a call names."""
    function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else ""


def _arguments(call: Any) -> Any:
    """Return the arguments of a call, parsed if they are JSON."""
    function = call.get("function", call) if isinstance(call, Mapping) else {}
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except ValueError:
            return arguments
    return arguments


def _leaves(value: Any) -> Iterator[Any]:
    """Yield every key and every value without parts in nested arguments."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield key
            yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _has_leaf(rendered: Rendered, leaf: Any) -> bool:
    return rendered.has(leaf) if isinstance(leaf, str) else any(map(rendered.has, (str(leaf), json.dumps(leaf))))


def _is_encoded_twice(rendered: Rendered, arguments: Mapping[str, Any]) -> bool:
    """Return True if a text has arguments as JSON text inside of JSON, or of JSON in JSON."""
    if not arguments:
        return False
    for ascii in (True, False):
        once = json.dumps(arguments, ensure_ascii=ascii)
        twice = json.dumps(once, ensure_ascii=ascii)[1:-1]
        thrice = json.dumps(twice, ensure_ascii=ascii)[1:-1]
        if any(without_whitespace(text)[:_DOUBLE_CHARS] in rendered.dense for text in (twice, thrice)):
            return True
    return False


def _spellings(part: str) -> Iterator[str]:
    """Yield a text as templates may write it."""
    yield part
    for ascii in (True, False):
        escaped = json.dumps(part, ensure_ascii=ascii)[1:-1]
        yield escaped
        yield escaped.translate(_JSON_ESCAPES)
    yield part.replace("'", r"\'")
    yield html.escape(part)
    yield html.escape(part, quote=False)
