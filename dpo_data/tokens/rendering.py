"""Conversational pairs as the texts that are tokenized: rendered, aligned and complete, or refused."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dpo_data.tokens.alignment import Alignment, align
from dpo_data.tokens.coverage import (
    DROPS_CONTENT,
    DROPS_MESSAGE,
    WRITTEN_AS_DATA,
    Loss,
    is_short,
    lost_from_prompt,
    lost_from_response,
)
from dpo_data.tokens.messages import Conversation, Message, Messages, joined, spellings, text_of
from dpo_data.tokens.special import EndTokens
from dpo_data.tokens.templates import FIRST_MARK, ChatTemplate, TemplateRefusal
from dpo_data.tokens.thoughts import thoughts_of

#: Reasons in dropped.jsonl for conversations that the chat template cannot render, or renders with another prompt.
#: DROPS_CONTENT and DROPS_MESSAGE are the others.
TEMPLATE_REFUSED = "template_refused"
TEMPLATE_REWRITES_PROMPT = "template_rewrites_prompt"

#: Codes of remarks on pairs that are kept, as the counts have them; those of `coverage` are the others.
PROMPT_END_LEFT_OUT = "prompt_end_left_out"
THINKING_CLOSED_AT_ONCE = "thinking_closed_at_once"
PROMPT_CONTINUED = "prompt_continued"
TEXT_AFTER_END_CUT = "text_after_end_cut"
EOS_APPENDED = "eos_appended"
ARGUMENTS_UNUSED = "arguments_unused"
TURN_CUT_REFUSED = "turn_cut_refused"
SYSTEM_CUT = "system_cut"

#: Put behind the last text of a response to find out what the template writes after it.
MARK = chr(FIRST_MARK)
#: Characters of a text that is quoted in a message.
QUOTED_CHARS = 60


@dataclass(frozen=True)
class RenderedPair:
    """A pair as text.

    Attributes:
        prompt: what both responses follow.
        chosen: the chosen response.
        rejected: the rejected response.
        remarks: code of a remark to the text that it quotes.
    """

    prompt: str
    chosen: str
    rejected: str
    remarks: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A pair that is left out.

    Args:
        code: why, as dropped.jsonl and the counts have it.
        message: the reason in words, such as the template's own message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def render_pair(template: ChatTemplate, ends: EndTokens, conversation: Conversation) -> RenderedPair:
    """Return a conversational pair as text: the prompt with its generation prompt, and what each response adds.

    The messages are spelled in the ways that templates want, until one of them renders everything.

    Raises: Refused: no spelling does.
    """
    refusals: list[Refused] = []
    for spelled in spellings(conversation):
        try:
            return _Rendering(template, ends, spelled).pair()
        except Refused as refused:
            refusals.append(refused)
    # What a template leaves out says more than an error about another spelling.
    raise next((refused for refused in refusals if refused.code != TEMPLATE_REFUSED), refusals[0])


class _Rendering:
    """The rendering of one pair in one spelling of its messages."""

    def __init__(self, template: ChatTemplate, ends: EndTokens, conversation: Conversation) -> None:
        self._template = template
        self._ends = ends
        self._conversation = conversation
        self._before, self._chosen, self._rejected = conversation.prompt, conversation.chosen, conversation.rejected
        self._continues = conversation.continues_message
        if self._continues:
            *self._before, start = self._before
            self._chosen, self._rejected = (
                [joined(start, side[0]), *side[1:]] for side in (self._chosen, self._rejected)
            )

    def pair(self) -> RenderedPair:
        """Return the pair as text.

        Raises: Refused.
        """
        conversation = self._conversation
        aligned = self._align()
        remarks: dict[str, str] = {}
        chosen = self._ended(aligned.chosen, self._chosen, remarks)
        rejected = self._ended(aligned.rejected, self._rejected, remarks)
        losses = [
            *lost_from_prompt(aligned.prompt, conversation.prompt, conversation.tools),
            *lost_from_response(aligned.block + chosen, conversation.chosen),
            *lost_from_response(aligned.block + rejected, conversation.rejected),
            *self._lost_messages(),
        ]
        for loss in losses:
            if loss.code == WRITTEN_AS_DATA:
                raise Refused(
                    TEMPLATE_REFUSED, f"the template writes the parts of a content as data: {quoted(loss.text)}"
                )
            if loss.code in (DROPS_CONTENT, DROPS_MESSAGE):
                raise Refused(loss.code, f"the {loss.place} is not in the rendered text: {quoted(loss.text)}")
            remarks.setdefault(loss.code, quoted(loss.text))
        if aligned.left_out:
            remarks[PROMPT_END_LEFT_OUT] = quoted(aligned.left_out)
        elif aligned.closes_at_once:
            remarks[THINKING_CLOSED_AT_ONCE] = quoted(aligned.block)
        if self._continues:
            remarks[PROMPT_CONTINUED] = ""
        return RenderedPair(aligned.prompt, chosen, rejected, remarks)

    def _lost_messages(self) -> Iterator[Loss]:
        """Yield messages that the template leaves out whatever they say, though the text seems to have them."""
        for side in (self._chosen, self._rejected):
            messages = [*self._before, *side]
            if not any(map(_could_be_missed, messages)):
                continue
            for number in sorted(self._template.dropped(messages, self._conversation.tools)):
                message = messages[number]
                if _could_be_missed(message):
                    code = DROPS_MESSAGE if number < len(self._before) else DROPS_CONTENT
                    lost = text_of(message) or json.dumps(message["tool_calls"], ensure_ascii=False)
                    yield Loss(code, lost, f"message {number + 1} of the conversation ({message.get('role')})")

    def _align(self) -> Alignment:
        prompt = self._render(
            self._conversation.prompt,
            add_generation_prompt=not self._continues,
            continue_final_message=self._continues,
        )
        chosen, rejected = (self._render([*self._before, *side]) for side in (self._chosen, self._rejected))
        one, other = (thoughts_of(side[0]) if side else "" for side in (self._chosen, self._rejected))
        aligned = align(prompt, chosen, rejected, (one, other))
        if aligned is None:
            whole = rejected if chosen.startswith(prompt) else chosen
            raise Refused(TEMPLATE_REWRITES_PROMPT, _difference(prompt, whole))
        return aligned

    def _render(
        self, messages: Messages, *, add_generation_prompt: bool = False, continue_final_message: bool = False
    ) -> str:
        try:
            return self._template.render(
                messages,
                self._conversation.tools,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                arguments=self._conversation.arguments,
            )
        except TemplateRefusal as refusal:
            raise Refused(TEMPLATE_REFUSED, str(refusal)) from refusal

    def _ended(self, response: str, side: Messages, remarks: dict[str, str]) -> str:
        """Return a response without what the template writes after its end."""
        ended = self._cut_behind_eos(response, side)
        if cut := response[len(ended) :].strip():
            remarks[TEXT_AFTER_END_CUT] = quoted(cut)
        if (forced := self._template.forced_end.strip()) and ended.rstrip().endswith(forced):
            raise Refused(
                TEMPLATE_REFUSED,
                f"the template always adds a generation prompt, and {self._ends.eos} does not end the response before "
                f"it: {quoted(forced)}",
            )
        if not self._ends.are_at_end_of(ended):
            remarks[EOS_APPENDED] = self._ends.eos
        return self._ends.strip_after(ended)

    def _cut_behind_eos(self, response: str, side: Messages) -> str:
        """Return a response up to the first EOS behind its last text."""
        eos = self._ends.eos
        first = response.find(eos)
        if first < 0 or not response[first + len(eos) :].strip():
            return response
        marked = self._render([*self._before, *side[:-1], _marked(side[-1])])
        tail = marked.rpartition(MARK)[2]
        if MARK not in marked or not response.endswith(tail):
            return response
        end = response.find(eos, len(response) - len(tail))
        return response if end < 0 else response[: end + len(eos)]


def _could_be_missed(message: Message) -> bool:
    """Return True if what a message says may be in a text by chance, or as the name of a tool."""
    return is_short(message) or bool(message.get("tool_calls"))


def _marked(message: Message) -> Message:
    """Return a message with `MARK` behind its content and behind the name in its last call."""
    content = message.get("content")
    if isinstance(content, str) and content:
        message = message | {"content": _with_mark(content)}
    elif isinstance(content, list) and content and isinstance(content[-1].get("text"), str):
        last_part = content[-1] | {"text": _with_mark(content[-1]["text"])}
        message = message | {"content": [*content[:-1], last_part]}
    if calls := message.get("tool_calls"):
        last = calls[-1]
        function = last.get("function", last)
        named = {**function, "name": f"{function.get('name')}{MARK}"}
        message = message | {"tool_calls": [*calls[:-1], {**last, "function": named} if "function" in last else named]}
    return message


def _with_mark(text: str) -> str:
    """Return a text with the mark before the white space at its end, which templates may strip."""
    end = len(text.rstrip())
    return text[:end] + MARK + text[end:]


def _difference(prompt: str, whole: str) -> str:
    """Return in words where a conversation first differs from its prompt."""
    place = next(
        (place for place, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other),
        min(len(prompt), len(whole)),
    )
    return f"the prompt has {quoted(prompt[place:])} where the whole conversation has {quoted(whole[place:])}"


def quoted(text: str) -> str:
    r"""Return the beginning of a text in quotes, on one line.

    >>> quoted("one\ntwo")
    '"one\\ntwo"'
    """
    shown = text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "..."
    return json.dumps(shown, ensure_ascii=False)
