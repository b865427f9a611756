"""Chat templates: one conversation rendered to text, and what a template does whatever the conversation."""

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from dpo_data.errors import UsageError, argument, first_line
from dpo_data.tokens.messages import Message, Messages

#: Parameters of `apply_chat_template` that this program decides.
RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
#: The first of the characters that mark contents: for private use, and in no template.
FIRST_MARK, FIRST_CALL_MARK = 0xE000, 0xF000
#: Directives of strftime; a template that formats the date gets them from a fixed day, at midnight.
_DIRECTIVES = "aAbBcdDeFGgHIjklmMnpPrRsStTuUVwWxXyYzZ"
_USES_DATE = re.compile(r"\bstrftime_now\b")


class TemplateRefusal(Exception):
    """A conversation that a chat template cannot render, with the template's own message."""


class ChatTemplate:
    """The chat template of a tokenizer, or one in its place, with everything that it depends on.

    Args:
        tokenizer: of transformers.
        template: a Jinja template in place of the tokenizer's.
        arguments: variables that the template gets, such as enable_thinking.
        date: the day that the template takes for today.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        date: datetime.date | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.arguments = dict(arguments or {})
        self._date = date
        #: Whether a conversation has tools -> the template for it: some tokenizers have two.
        self._sources: dict[bool, str] = {}
        self._dropped: dict[tuple[Any, ...], frozenset[int]] = {}

    def render(
        self,
        messages: Messages,
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the template over messages.

        Args:
            messages: the conversation.
            tools: the tools that it may use.
            add_generation_prompt: end with the text that makes a model respond.
            continue_final_message: end within the last message, for the model to continue it.
            arguments: variables of this conversation, over those of the template.

        Raises:
            TemplateRefusal: the template cannot render this conversation.
            UsageError: it is not valid Jinja.
        """
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tools=tools,
                chat_template=self.source(tools),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                **self.arguments | dict(arguments or {}),
            )
        except TemplateSyntaxError as error:
            raise UsageError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno}).\n"
                f"  Fix it, or give another with {argument('chat_template')}."
            ) from error
        except (TemplateError, TypeError, AttributeError, LookupError, ArithmeticError, ValueError) as error:
            raise TemplateRefusal(first_line(error)) from error
        return text

    def at(self, date: str | None) -> "ChatTemplate":
        """Return the template on another day, YYYY-MM-DD, or on the day of rendering if None."""
        day = None if date is None else datetime.date.fromisoformat(date)
        return ChatTemplate(self._tokenizer, self._template, self.arguments, day)

    def check(self) -> None:
        """Raise UsageError if the template is not valid Jinja."""
        with suppress(TemplateRefusal):
            self.render([{"role": "user", "content": ""}], add_generation_prompt=True)

    def source(self, tools: Sequence[Any] | None = None) -> str:
        """Return the Jinja text for a conversation with these tools, with the date fixed."""
        has_tools = tools is not None
        if has_tools not in self._sources:
            source = self._template or self._tokenizer.get_chat_template(None, tools)
            if self._date is not None and _USES_DATE.search(source):
                source = _fix_date(source, self._date)
            self._sources[has_tools] = source
        return self._sources[has_tools]

    def dropped(self, messages: Messages, tools: Sequence[Any] | None = None) -> frozenset[int]:
        """Return the numbers of messages, from 0, whose content or calls the template leaves out whatever they say.

        They are found with texts that are in no template: a short content, or the name of one of the tools, may be in
        a rendered text by chance.
        """
        shape = (tuple(map(_shape, messages)), bool(tools))
        if shape not in self._dropped:
            marked, marks = zip(*(_marked(message, number) for number, message in enumerate(messages)), strict=True)
            try:
                text = self.render(list(marked), tools)
                self._dropped[shape] = frozenset(
                    number for number, expected in enumerate(marks) if any(mark not in text for mark in expected)
                )
            except TemplateRefusal:
                # It has rendered the real contents, but cannot render these.
                self._dropped[shape] = frozenset()
        return self._dropped[shape]

    @cached_property
    def text(self) -> str:
        """The Jinja text; of a tokenizer with several templates, all of them."""
        own = self._template or self._tokenizer.chat_template or ""
        return "\n".join(own.values()) if isinstance(own, Mapping) else str(own)

    @property
    def uses_date(self) -> bool:
        """True if what the template renders depends on the day."""
        return _USES_DATE.search(self.text) is not None

    @property
    def unused_arguments(self) -> list[str]:
        """The names of arguments that the template does not mention."""
        return [name for name in self.arguments if not re.search(rf"\b{re.escape(name)}\b", self.text)]

    @cached_property
    def forced_end(self) -> str:
        """The text that the template writes after a response if it always adds a generation prompt; usually empty.

        Such a template writes the same with and without add_generation_prompt, and ends a response otherwise than
        between two turns.
        """
        marks = [chr(FIRST_MARK + number) for number in range(3)]
        roles = ("user", "assistant", "user")
        turns = [{"role": role, "content": mark} for role, mark in zip(roles, marks, strict=True)]
        try:
            if self.render(turns[:1]) != self.render(turns[:1], add_generation_prompt=True):
                return ""
            at_end = self.render(turns[:2]).rpartition(marks[1])[2]
            between = self.render(turns).rpartition(marks[1])[2].partition(marks[2])[0]
        except TemplateRefusal:
            return ""
        return "" if between.startswith(at_end) else at_end


def _shape(message: Message) -> tuple[Any, ...]:
    """Return what a template may branch on in a message, other than the words of its content."""
    calls = message.get("tool_calls") or ()
    return (
        message.get("role"),
        type(message.get("content")) if message.get("content") else None,
        tuple(type(call.get("function", call).get("arguments")) for call in calls),
    )


def _marked(message: Message, number: int) -> tuple[Message, list[str]]:
    """Return a message with marks for its content and its calls' names, and the marks."""
    marks = []
    if content := message.get("content"):
        marks.append(chr(FIRST_MARK + number))
        message = message | {"content": marks[0] if isinstance(content, str) else [{"type": "text", "text": marks[0]}]}
    calls = []
    for place, call in enumerate(message.get("tool_calls") or ()):
        marks.append(chr(FIRST_CALL_MARK + number) + chr(FIRST_MARK + place))
        named = {**call.get("function", call), "name": marks[-1]}
        calls.append({**call, "function": named} if "function" in call else named)
    return (message | {"tool_calls": calls} if calls else message), marks


def _fix_date(source: str, date: datetime.date) -> str:
    """Return a template whose strftime_now formats a fixed day.

    A macro, since transformers hands templates plain data and no functions. It is put on the first line, so that the
    line numbers of errors stay.
    """
    midnight = datetime.datetime.combine(date, datetime.time())
    replaced = "".join(
        f" | replace({'%' + flag + directive!r}, {midnight.strftime('%' + flag + directive)!r})"
        for directive in _DIRECTIVES
        for flag in ("", "-")
    )
    return (
        r"{%- macro strftime_now(format) -%}{{ format | replace('%%', '\0')"
        + replaced
        + r" | replace('\0', '%') }}{%- endmacro +%}"
        + source
    )


def check_template_arguments(arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the arguments of a chat template, or None if there are none.

    Raises: UsageError: a name that is not free, or a value that is not JSON.
    """
    if not arguments:
        return None
    for name, value in arguments.items():
        if name in RESERVED:
            raise UsageError(f"{name} is decided by this program.\n  Leave it out.", "chat_template_kwargs")
        try:
            json.dumps(value)
        except TypeError as error:
            raise UsageError(f"{name}: {first_line(error)}.\n  Give JSON values.", "chat_template_kwargs") from error
    return dict(arguments)
