"""Encode texts and conversations to token ids, including BOS and EOS. Reads no files but the tokenizer's."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpo_data.errors import UsageError, loading
from dpo_data.options import TokenizerEngine
from dpo_data.prepared.files import hash_json
from dpo_data.ragged import Ragged, equal_rows, from_lists, merged
from dpo_data.tokens.engines import FastEngine, encode_with_tokenizers, open_engine
from dpo_data.tokens.manifest import TokenizerEntry
from dpo_data.tokens.messages import Conversation, Messages, stored_conversation
from dpo_data.tokens.rendering import ARGUMENTS_UNUSED, TEMPLATE_REFUSED, Refused, RenderedPair, render_pair
from dpo_data.tokens.special import EndTokens, without_prefix_space
from dpo_data.tokens.templates import ChatTemplate
from dpo_data.tokens.truncation import TurnCut

#: Characters of the word on either side of a seam that are compared: joint tokenization could merge them.
SEAM_CHARS = 32
#: Maximum number of remembered seams; most have the same few words on both sides.
MAX_SEAMS = 200_000
WORD = re.compile(r"\s*\S*\s*")


def load_tokenizer(name: str | Path) -> Any:
    """Return a tokenizer from a folder or from the Hub; never runs code that comes with it.

    Raises: InputError: it cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    with loading(name, "tokenizer") as found:
        return AutoTokenizer.from_pretrained(found, trust_remote_code=False)


def tokenizer_hash(tokenizer: Any) -> str:
    """Return 128 bits, in hexadecimal, of all that decides a tokenizer's ids: model, special tokens and chat template.

    The hash is equal for one tokenizer loaded from two places; settings for truncation and padding do not count.
    """
    if getattr(tokenizer, "is_fast", False):
        backend = _without_truncation_and_padding(tokenizer.backend_tokenizer)
        model: Any = hashlib.sha256(backend.to_str().encode()).hexdigest()
    else:
        model = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    # The ids too: the map leaves out tokens without a role of their own, and a turn may end with one of them.
    return hash_json([model, special, sorted(tokenizer.all_special_ids), tokenizer.chat_template])


def _without_truncation_and_padding(backend: Any) -> Any:
    """Return a tokenizer of the tokenizers library, or a copy if it truncates or pads."""
    if backend.truncation is None and backend.padding is None:
        return backend
    backend = type(backend).from_str(backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenizer_entry(tokenizer: Any) -> TokenizerEntry:
    """Return a tokenizer's entry in the manifest of a token cache.

    Raises: UsageError: it has no end-of-sequence token.
    """
    require_eos(tokenizer)
    name = str(tokenizer.name_or_path)
    # Only the folder's own name: one tokenizer in two places gives the same bytes.
    name = Path(name).resolve().name if name and Path(name).exists() else name
    return TokenizerEntry(
        name=name,
        hash=tokenizer_hash(tokenizer),
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        has_chat_template=bool(tokenizer.chat_template),
    )


def require_eos(tokenizer: Any) -> None:
    """Raise UsageError if a tokenizer has no end-of-sequence token."""
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token, and a model could never learn to "
            "stop.\n  Set eos_token in its tokenizer_config.json."
        )


class Refusal(NamedTuple):
    """The refusal of a pair by a chat template: a reason for the counts, and the template's own message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Texts:
    """N pairs as the texts that are tokenized; a refused pair has empty texts.

    Attributes:
        prompts: the prompts.
        chosen: the chosen responses.
        rejected: the rejected responses.
        refused: number of a pair to why it is refused.
        remarks: number of a pair to what is remarked on it, code to quoted text.
    """

    prompts: list[str]
    chosen: list[str]
    rejected: list[str]
    refused: dict[int, Refusal] = field(default_factory=dict)
    remarks: dict[int, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodedPairs:
    """N pairs as ids with BOS and EOS, before truncation.

    Attributes:
        prompts: the prompts.
        chosen: the chosen responses.
        rejected: the rejected responses.
        seams: number of the 2 N responses that would begin with other tokens if tokenized together with their prompt.
        refused: number of a pair to why it is refused; it has no ids but EOS.
        remarks: number of a pair to what is remarked on it, code to quoted text.
        turn_cuts: number of a pair to its prompt without the oldest turns, if it is truncated by turns.
    """

    prompts: Ragged
    chosen: Ragged
    rejected: Ragged
    seams: int
    refused: dict[int, Refusal] = field(default_factory=dict)
    remarks: dict[int, Mapping[str, str]] = field(default_factory=dict)
    turn_cuts: dict[int, TurnCut] = field(default_factory=dict)


class Encoder:
    """Tokenizes pairs in batches.

    A text prompt gets the tokens that the tokenizer puts before a text (BOS), unless it begins with them. A response
    gets the end-of-sequence token, unless it ends with a special token. In a conversation the template writes BOS.

    Attributes:
        tokenizer: the tokenizer of transformers.
        template: the chat template, with all that it depends on.
        prefix_ids: ids that the tokenizer puts before a text.
        engine: the library that encodes, its version, and why it does; empty for a tokenizer written in Python.
    """

    def __init__(self, tokenizer: Any, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template or ChatTemplate(tokenizer)
        self._ends = EndTokens(tokenizer, self.template.text)
        self._backend = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        self._backend_without_prefix = None if self._backend is None else without_prefix_space(self._backend)
        self._engine: FastEngine | None = None
        self.engine = "" if self._backend is None else f"tokenizers {version('tokenizers')}"
        self.prefix_ids = self._find_prefix()
        self._seams: dict[tuple[str, str], np.bool_] = {}

    def choose_engine(self, choice: TokenizerEngine, text_bytes: int) -> None:
        """Choose the library that encodes from now on, for texts of a size.

        Raises: UsageError: the choice is fastokens, and it cannot be used.
        """
        backend = None if self._backend is None else _without_truncation_and_padding(self._backend)
        found = open_engine(backend, choice, text_bytes)
        self._use_engine(found if isinstance(found, FastEngine) else None, found if isinstance(found, str) else "")

    def leave_engine(self, reason: str) -> None:
        """Encode with tokenizers from now on, for a reason, and forget what was encoded."""
        self._use_engine(None, reason)

    def _use_engine(self, engine: FastEngine | None, reason: str) -> None:
        self._engine = engine
        self._seams = {}
        if engine is not None:
            self.engine = engine.name
        elif self._backend is not None:
            self.engine = f"tokenizers {version('tokenizers')}" + (f": {reason}" if reason else "")

    @property
    def provenance(self) -> dict[str, str]:
        """The folder of the tokenizer, or its name on the Hub, and the library that encodes."""
        name = str(self.tokenizer.name_or_path)
        source = str(Path(name).resolve()) if name and Path(name).exists() else name
        return {"tokenizer": source, "tokenizer_engine": self.engine}

    @property
    def bos_token_id(self) -> int | None:
        """First token of a prompt, kept when the prompt is truncated; None if prompts begin with no special token."""
        id_: int | None = self.prefix_ids[0] if self.prefix_ids else self.tokenizer.bos_token_id
        return id_

    @property
    def in_threads(self) -> bool:
        """True if several threads may encode at a time, which tokenizers written in Python do not promise."""
        return self._backend is not None

    @property
    def _prefixes(self) -> bool:
        """True if ids after a prompt can differ from those of a text alone other than by a seam; no backend says so."""
        return self._backend is None or self._backend_without_prefix is not None

    def encode_texts(self, texts: Texts) -> EncodedPairs:
        """Return the ids of text pairs."""
        chosen, rejected = (list(map(self._ends.strip_after, side)) for side in (texts.chosen, texts.rejected))
        return self._encode(Texts(texts.prompts, chosen, rejected), self.prefix_ids)

    def encode_rendered(self, texts: Texts) -> EncodedPairs:
        """Return the ids of conversations that `render` turned into text."""
        return self._encode(texts, [])

    def _encode(self, texts: Texts, prefix: list[int]) -> EncodedPairs:
        if self._prefixes:
            prompts, chosen, rejected, seams = self._encode_together(texts)
        else:
            prompts, chosen, rejected = self._encode_distinct(texts.prompts, texts.chosen, texts.rejected)
            seams = self._count_seams(texts)
        return EncodedPairs(
            _with_prefix(prompts, prefix),
            self._with_eos(chosen, texts.chosen),
            self._with_eos(rejected, texts.rejected),
            seams,
            texts.refused,
            texts.remarks,
        )

    def _with_eos(self, ids: Ragged, texts: list[str]) -> Ragged:
        """Return the ids of texts with EOS after those that do not end with a special token."""
        ended = np.fromiter(map(self._ends.are_at_end_of, texts), bool, len(texts))
        values = np.insert(ids.values, ids.offsets[1:][~ended], self.tokenizer.eos_token_id)
        return Ragged(values, _offsets(ids.lengths + ~ended))

    def _encode_distinct(self, *columns: list[str]) -> Iterator[Ragged]:
        """Yield the ids of each column; a text that occurs several times goes through the tokenizer once."""
        distinct = list(dict.fromkeys(chain.from_iterable(columns)))
        numbers = {text: number for number, text in enumerate(distinct)}
        encoded = self.encode(distinct)
        for column in columns:
            yield encoded.take(np.fromiter(map(numbers.__getitem__, column), np.int64, len(column)))

    def _encode_together(self, texts: Texts) -> tuple[Ragged, Ragged, Ragged, int]:
        """Return the ids of pairs where a response's depend on there being a prompt before it, and count the seams.

        A response has the ids that follow the prompt's own in both tokenized together. At a seam, where the prompt's
        last token is another one then, it has its own ids without the space that the tokenizer puts before a text.
        """
        joint_texts = (
            [prompt + response for prompt, response in zip(texts.prompts, side, strict=True)]
            for side in (texts.chosen, texts.rejected)
        )
        prompts, *joint = self._encode_distinct(texts.prompts, *joint_texts)
        responses, seams = [], 0
        for ids, side in zip(joint, (texts.chosen, texts.rejected), strict=True):
            follows = _begins_with(ids, prompts)
            starts = np.where(follows, prompts.lengths, 0)
            apart = self._encode_without_prefix([text for text, fits in zip(side, follows, strict=True) if not fits])
            responses.append(merged(ids.cut(starts, ids.lengths - starts), apart, follows))
            seams += int((~follows).sum())
        return prompts, responses[0], responses[1], seams

    def _encode_without_prefix(self, texts: list[str]) -> Ragged:
        """Return the ids of texts without the space that the tokenizer puts before a text."""
        if self._backend_without_prefix is not None:
            return self._encode_with(self._backend_without_prefix, texts)
        # A tokenizer written in Python: after a line break it puts no space.
        line_break, *after = self._encode_slowly(["\n", *("\n" + text for text in texts)])
        size = len(line_break)
        alone = self._encode_slowly(texts)
        return from_lists(
            [ids[size:] if ids[:size] == line_break else own for ids, own in zip(after, alone, strict=True)]
        )

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the ids of texts, without any added token."""
        if self._backend is None:
            return from_lists(self._encode_slowly(texts))
        if self._engine is not None:
            return self._engine.encode(texts)
        # At every call: the tokenizer is the user's own, who may have turned either on since the last one.
        self._backend = _without_truncation_and_padding(self._backend)
        return self._encode_with(self._backend, texts)

    def _encode_slowly(self, texts: Sequence[str]) -> list[list[int]]:
        return list(self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []

    def _encode_with(self, backend: Any, texts: Sequence[str]) -> Ragged:
        return encode_with_tokenizers(_without_truncation_and_padding(backend), texts)

    def render(
        self,
        prompts: Sequence[Messages],
        chosen: Sequence[Messages],
        rejected: Sequence[Messages],
        tools: Sequence[Any] | None = None,
        arguments: Sequence[Any] | None = None,
    ) -> Texts:
        """Return conversations as text: a prompt up to its generation prompt, and a response as the rest.

        Args:
            prompts: messages of each prompt.
            chosen: messages of each chosen response.
            rejected: messages of each rejected response.
            tools: the tools of each conversation, or JSON text of them.
            arguments: variables of the template for each conversation alone, or JSON text of them.
        """
        nothing = [None] * len(prompts)
        texts = Texts([], [], [])
        unused = {ARGUMENTS_UNUSED: ", ".join(names)} if (names := self.template.unused_arguments) else {}
        columns = (prompts, chosen, rejected, tools or nothing, arguments or nothing)
        for row, fields in enumerate(zip(*columns, strict=True)):
            sides = ("", "", "")
            try:
                pair = self.render_one(stored_conversation(*fields))
            except json.JSONDecodeError as error:
                message = f"tool calls, tools and template arguments are JSON, and these are not: {error}"
                texts.refused[row] = Refusal(TEMPLATE_REFUSED, message)
            except Refused as refused:
                texts.refused[row] = Refusal(refused.code, refused.message)
            else:
                sides = (pair.prompt, pair.chosen, pair.rejected)
                if remarks := {**pair.remarks, **unused}:
                    texts.remarks[row] = remarks
            for column, text in zip((texts.prompts, texts.chosen, texts.rejected), sides, strict=True):
                column.append(text)
        return texts

    def render_one(self, conversation: Conversation) -> RenderedPair:
        """Return a conversational pair as text.

        Raises: Refused: the template cannot render all of it.
        """
        return render_pair(self.template, self._ends, conversation)

    def _find_prefix(self) -> list[int]:
        """Return the ids that the tokenizer puts before a text by itself, usually BOS or none."""
        probe = self.encode(["a"]).values.tolist()
        whole = list(self.tokenizer("a")["input_ids"])
        for start in range(len(whole) - len(probe) + 1):
            if whole[start : start + len(probe)] == probe:
                return whole[:start]
        return []

    def _count_seams(self, texts: Texts) -> int:
        """Return how many responses would begin with other tokens if tokenized together with their prompt.

        Only the words on both sides of the seam are tokenized for it: tokenizers do not merge across white space.
        """
        seams = []
        for prompt, chosen, rejected in zip(texts.prompts, texts.chosen, texts.rejected, strict=True):
            before = last_word(prompt)
            if before:
                seams += [(before, after) for after in (first_word(chosen), first_word(rejected)) if after]
        if len(self._seams) > MAX_SEAMS:
            self._seams = {}
        known = self._seams
        new = [seam for seam in dict.fromkeys(seams) if seam not in known]
        apart = self.encode([word for seam in new for word in seam])
        joint = self.encode([last + first for last, first in new])
        # Both words of a seam are adjacent in `apart`.
        equal = equal_rows(Ragged(apart.values, apart.offsets[::2]), joint)
        known.update(zip(new, ~equal, strict=True))
        return int(sum(known[seam] for seam in seams))


def first_word(text: str) -> str:
    """Return the first word of a text, at most `SEAM_CHARS` of it, with the white space around it.

    >>> first_word(" Hello, you")
    ' Hello, '
    """
    found = WORD.match(text[:SEAM_CHARS])
    return found[0] if found else ""


def last_word(text: str) -> str:
    """Return the last word of a text, at most `SEAM_CHARS` of it, with the white space around it.

    >>> last_word("Do you say Hello? ")
    ' Hello? '
    """
    # Backwards: a search for the end would try every position before it.
    return first_word(text[: -SEAM_CHARS - 1 : -1])[::-1]


def _begins_with(ids: Ragged, beginnings: Ragged) -> NDArray[np.bool_]:
    """Return (N,) True where a sequence begins with the other's."""
    long_enough: NDArray[np.bool_] = ids.lengths >= beginnings.lengths
    return long_enough & equal_rows(ids.cut_end(np.minimum(ids.lengths, beginnings.lengths)), beginnings)


def _with_prefix(ids: Ragged, prefix: list[int]) -> Ragged:
    """Return each sequence with the prefix before it, unless it begins with it."""
    if not prefix:
        return ids
    there = np.array(
        [ids.values[start : start + len(prefix)].tolist() == prefix for start in ids.offsets[:-1]], dtype=bool
    )
    starts = ids.offsets[:-1][~there]
    values = np.insert(ids.values, np.repeat(starts, len(prefix)), np.tile(prefix, len(starts)))
    return Ragged(values, _offsets(ids.lengths + ~there * len(prefix)))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
