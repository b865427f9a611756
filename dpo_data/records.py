"""The rows that everything speaks: preference pairs of text or of messages, and their content keys."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

FIELDS = ("prompt", "chosen", "rejected")


class Record(BaseModel):
    """A row read from outside: no unknown fields, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Message(Record):
    """One message of a dialogue."""

    role: Annotated[str, Field(min_length=1, description="system, user, assistant or tool")]
    content: str


class TextPair(Record):
    """Two responses to one prompt, as text; prompt + response is what the model reads."""

    prompt: str
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """Prompt, chosen and rejected as text."""
        return self.prompt, self.chosen, self.rejected


class TextRow(TextPair):
    """A text pair as a prepared folder holds it."""

    source: str
    origin: Annotated[str, Field(description="file:line of the raw row, counted from 1.")]
    id: Annotated[str, Field(description="128-bit hash of prompt, chosen and rejected, in hexadecimal.")]
    prompt_key: Annotated[str, Field(description="128-bit hash of the prompt, in hexadecimal.")]


class ConversationalPair(Record):
    """Two continuations of one dialogue, as messages for a chat template."""

    prompt: Annotated[list[Message], Field(min_length=1)]
    chosen: list[Message]
    rejected: list[Message]
    chosen_score: float | None = None
    rejected_score: float | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """Prompt, chosen and rejected as text: the contents, a blank line between messages."""
        return joined_contents(self.prompt), joined_contents(self.chosen), joined_contents(self.rejected)


class ConversationalRow(ConversationalPair):
    """A conversational pair as a prepared folder holds it."""

    source: str
    origin: Annotated[str, Field(description="file:line of the raw row, counted from 1.")]
    id: Annotated[str, Field(description="128-bit hash of prompt, chosen and rejected, in hexadecimal.")]
    prompt_key: Annotated[str, Field(description="128-bit hash of the prompt, in hexadecimal.")]


PreferencePair = TextPair | ConversationalPair


def joined_contents(messages: Sequence[Message]) -> str:
    """The contents of messages, a blank line between them."""
    return "\n\n".join(message.content for message in messages)


class PairKeys(NamedTuple):
    """128-bit content hashes of one pair.

    Attributes:
        prompt: equal for pairs with the same prompt.
        pair: equal for the same prompt, chosen and rejected; in hexadecimal it is the `id` column.
        unordered: equal for a pair and its swap.
    """

    prompt: bytes
    pair: bytes
    unordered: bytes


def pair_keys(pair: PreferencePair) -> PairKeys:
    """The content hashes of a pair.

    Raises: UnicodeEncodeError: a text holds a lone surrogate, which is no character and cannot be stored.
    """
    return content_keys(*encoded_fields(pair))


def encoded_fields(pair: PreferencePair) -> tuple[bytes, bytes, bytes]:
    """Prompt, chosen and rejected as UTF-8: text as it is, messages as compact JSON.

    Raises: UnicodeEncodeError: a text holds a lone surrogate, which is no character and cannot be stored.
    """
    if isinstance(pair, TextPair):
        return pair.prompt.encode(), pair.chosen.encode(), pair.rejected.encode()
    return _as_json(pair.prompt), _as_json(pair.chosen), _as_json(pair.rejected)


def content_keys(prompt: bytes, chosen: bytes, rejected: bytes) -> PairKeys:
    """The content hashes of encoded fields."""
    prompt_key = blake2b(prompt, digest_size=16).digest()
    one = blake2b(chosen, digest_size=16).digest()
    other = blake2b(rejected, digest_size=16).digest()
    pair_key = blake2b(prompt_key + one + other, digest_size=16).digest()
    if other < one:
        one, other = other, one
    return PairKeys(prompt_key, pair_key, blake2b(prompt_key + one + other, digest_size=16).digest())


def _as_json(messages: list[Message]) -> bytes:
    return json.dumps([[m.role, m.content] for m in messages], ensure_ascii=False, separators=(",", ":")).encode()
