"""Row types shared by all modules: preference pairs, scored responses, and the content keys of pairs."""

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from dpo_data.options import Form

FIELDS = ("prompt", "chosen", "rejected")
#: Prompt, chosen and rejected as text.
PairTexts = tuple[str, str, str]


class Record(BaseModel):
    """Row that is read from outside: unknown fields and silent conversions between types are refused."""

    # Built on first use, as most runs need the rows of one form.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Message(Record):
    """Message of a dialogue."""

    role: Annotated[str, Field(min_length=1, description="system, user, assistant or tool")]
    content: str
    tool_calls: Annotated[str | None, Field(description="Tool calls of an assistant, as JSON.")] = None
    tool_call_id: Annotated[str | None, Field(description="The call that a tool message answers.")] = None
    name: Annotated[str | None, Field(description="Name of the tool.")] = None
    reasoning_content: Annotated[str | None, Field(description="Reasoning before the content.")] = None
    thinking: Annotated[str | None, Field(description="Reasoning, under the name that some templates use.")] = None

    @property
    def texts(self) -> list[str]:
        """The reasoning, the content and the tool calls, without empty ones."""
        return [text for text in (self.reasoning_content, self.thinking, self.content, self.tool_calls) if text]


#: A prompt or a response: as text, or as messages.
Content = str | list[Message]
Score = Annotated[float, Field(allow_inf_nan=False)]


class Scores(Record):
    """Scores that a source gives the two responses of a pair; higher is better."""

    chosen_score: Score | None = None
    rejected_score: Score | None = None
    margin: Annotated[Score | None, Field(description="How much better chosen is.")] = None


class TextPair(Scores):
    """Two responses to one prompt, as text; the model reads prompt + response."""

    prompt: str
    chosen: str
    rejected: str

    @property
    def texts(self) -> PairTexts:
        """The prompt and the responses."""
        return self.prompt, self.chosen, self.rejected


class ConversationalPair(Scores):
    """Two responses to one dialogue, as messages for a chat template."""

    prompt: Annotated[list[Message], Field(min_length=1)]
    chosen: list[Message]
    rejected: list[Message]
    tools: Annotated[str | None, Field(description="Tools available in the dialogue, as JSON.")] = None
    chat_template_kwargs: Annotated[
        str | None, Field(description="Variables of the chat template for this dialogue, as JSON.")
    ] = None

    @property
    def texts(self) -> PairTexts:
        """The prompt and the responses: the contents of their messages, separated by blank lines."""
        return joined_contents(self.prompt), joined_contents(self.chosen), joined_contents(self.rejected)


class PreparedColumns(Record):
    """Columns that a prepared folder adds to a pair."""

    source: str
    origin: Annotated[str, Field(description="file:line of the raw row, counted from 1.")]
    id: Annotated[str, Field(description="128-bit hash of prompt, chosen and rejected, in hexadecimal.")]
    prompt_key: Annotated[str, Field(description="128-bit hash of the prompt, in hexadecimal.")]


class TextRow(PreparedColumns, TextPair):
    """Text pair of a prepared folder, without the metadata columns that are kept."""


class ConversationalRow(PreparedColumns, ConversationalPair):
    """Conversational pair of a prepared folder, without the metadata columns that are kept."""


def row_model(form: Form) -> type[TextRow | ConversationalRow]:
    """Return the type of the rows of a prepared folder."""
    return TextRow if form == "text" else ConversationalRow


PreferencePair = TextPair | ConversationalPair


class Response(Record):
    """One of several responses to a prompt.

    Attributes:
        content: the text, or the messages.
        score: higher is better.
        rank: for responses without a score; lower is better.
        reason: why it has neither, in one word for the counts.
        row: the raw row that it comes from, counted from 0 in its group of rows.
    """

    content: Content
    score: Score | None = None
    rank: Score | None = None
    reason: str | None = None
    row: int = 0

    @property
    def sort_score(self) -> float | None:
        """The score, or the negative rank: higher is better."""
        return self.score if self.rank is None else 0.0 - self.rank


class ScoredResponses(Record):
    """Prompt with K scored or ranked responses, from which `dpo_data.pairing` makes pairs."""

    prompt: Content
    responses: list[Response]
    tools: str | None = None


def joined_contents(messages: Sequence[Message]) -> str:
    """Return the reasoning, the contents and the tool calls of messages, separated by blank lines."""
    return "\n\n".join(text for message in messages for text in message.texts)


class PairKeys(NamedTuple):
    """128-bit content hashes of one pair.

    Attributes:
        prompt: equal for pairs with the same prompt.
        pair: equal for the same prompt, chosen and rejected; in hexadecimal it is the `id` column.
        unordered: equal for a pair and its swap.
        chosen: equal for pairs with the same chosen, whatever their prompts.
        rejected: equal for pairs with the same rejected.
    """

    prompt: bytes
    pair: bytes
    unordered: bytes
    chosen: bytes
    rejected: bytes


def pair_keys(pair: PreferencePair) -> PairKeys:
    """Return the content hashes of a pair.

    Raises: UnicodeEncodeError: a text contains a lone surrogate, which is not a character and cannot be stored.
    """
    return content_keys(*encoded_fields(pair))


def encoded_fields(pair: PreferencePair) -> tuple[bytes, bytes, bytes]:
    """Return prompt, chosen and rejected as UTF-8: text as it is, messages as compact JSON.

    Raises: UnicodeEncodeError: a text contains a lone surrogate, which is not a character and cannot be stored.
    """
    if isinstance(pair, TextPair):
        return pair.prompt.encode(), pair.chosen.encode(), pair.rejected.encode()
    context = f"{pair.tools or ''}{pair.chat_template_kwargs or ''}".encode()
    return canonical(pair.prompt) + context, canonical(pair.chosen), canonical(pair.rejected)


def content_keys(prompt: bytes, chosen: bytes, rejected: bytes) -> PairKeys:
    """Return the content hashes of encoded fields."""
    return keys_of_columns([prompt], [chosen], [rejected])[0]


def keys_of_columns(prompts: Sequence[bytes], chosen: Sequence[bytes], rejected: Sequence[bytes]) -> list[PairKeys]:
    """Return the content hashes of pairs whose encoded fields are given column by column."""
    sides = ([blake2b(text, digest_size=16).digest() for text in texts] for texts in (prompts, chosen, rejected))
    keys = []
    for prompt, one, other in zip(*sides, strict=True):
        pair = unordered = blake2b(prompt + one + other, digest_size=16).digest()
        if one > other:
            unordered = blake2b(prompt + other + one, digest_size=16).digest()
        keys.append(PairKeys(prompt, pair, unordered, one, other))
    return keys


def canonical(content: Content) -> bytes:
    """Return the bytes of which the hash of a content is made.

    Raises: UnicodeEncodeError: it contains a lone surrogate.
    """
    if isinstance(content, str):
        return content.encode()
    parts = [[m.role, m.content, *_further_parts(m)] for m in content]
    return _to_json(parts).encode()


#: Created once: json.dumps would create an encoder for every call that names its separators.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _further_parts(message: Message) -> tuple[str | None, ...]:
    tools = (message.tool_calls, message.tool_call_id, message.name)
    reasoning = (message.reasoning_content, message.thinking)
    if any(reasoning):
        return (*tools, *reasoning)
    return tools if any(tools) else ()


def without_nulls(value: Any) -> Any:
    """Return nested data without the keys that have no value, which Parquet adds for every key of another row.

    >>> without_nulls({"city": "Lima", "query": None, "parts": [None, {"a": None}]})
    {'city': 'Lima', 'parts': [None, {}]}
    """
    if isinstance(value, Mapping):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value
