"""Encode texts and conversations to token ids, including BOS and EOS. Reads no files but the tokenizer's."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_data.errors import InputError, UsageError, argument, first_line
from dpo_data.prepared.files import hash_json
from dpo_data.ragged import Ragged, equal_rows
from dpo_data.tokens.manifest import TokenizerEntry

#: Reasons in dropped.jsonl for conversations that the chat template cannot render, or renders with another prompt.
TEMPLATE_REFUSED = "template_refused"
TEMPLATE_REWRITES_PROMPT = "template_rewrites_prompt"

Messages = list[dict[str, Any]]

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

    path = Path(name)
    if not path.exists() and (path.is_absolute() or path.parts[:1] == ("..",) or len(path.parts) > 2):
        raise InputError(
            f"{name}: there is no such folder.\n  Name a folder with tokenizer.json, or a model on the Hub."
        )
    try:
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises plain Exceptions for a damaged tokenizer.json
        raise InputError(
            f"{name}: the tokenizer cannot be loaded: {first_line(error)}.\n"
            "  Name a folder with tokenizer.json, or a model on the Hub (which needs the network)."
        ) from error


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
    )


def require_eos(tokenizer: Any) -> None:
    """Raise UsageError if a tokenizer has no end-of-sequence token."""
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token, and a model could never learn to "
            "stop.\n  Set eos_token in its tokenizer_config.json."
        )


@dataclass(frozen=True)
class Texts:
    """N pairs as the texts that are tokenized; a refused pair has empty texts.

    Attributes:
        prompts: the prompts.
        chosen: the chosen responses.
        rejected: the rejected responses.
        refused: number of a pair to the reason why it is refused.
    """

    prompts: list[str]
    chosen: list[str]
    rejected: list[str]
    refused: dict[int, str]


@dataclass(frozen=True)
class EncodedPairs:
    """N pairs as ids with BOS and EOS, before truncation.

    Attributes:
        prompts: the prompts.
        chosen: the chosen responses.
        rejected: the rejected responses.
        seams: number of the 2 N responses that would begin with other tokens if tokenized together with their prompt.
    """

    prompts: Ragged
    chosen: Ragged
    rejected: Ragged
    seams: int


class Encoder:
    """Tokenizes pairs in batches.

    A text prompt gets the tokens that the tokenizer puts before a text (BOS), a response the end-of-sequence token,
    unless they are there already. In a conversation the template decides: it writes BOS, and a response that ends with
    a special token of the template gets no EOS.

    Attributes:
        tokenizer: the tokenizer of transformers.
        chat_template: replaces the tokenizer's; None for its own.
        prefix_ids: ids that the tokenizer puts before a text.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._backend = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        self.prefix_ids = self._find_prefix()
        self._seams: dict[tuple[str, str], np.bool_] = {}

    @property
    def bos_token_id(self) -> int | None:
        """First token of a prompt, kept when the prompt is truncated; None if prompts begin with no special token."""
        id_: int | None = self.prefix_ids[0] if self.prefix_ids else self.tokenizer.bos_token_id
        return id_

    @property
    def in_threads(self) -> bool:
        """True if several threads may encode at a time, which tokenizers written in Python do not promise."""
        return self._backend is not None

    def encode_texts(self, texts: Texts) -> EncodedPairs:
        """Return the ids of text pairs."""
        eos = self.tokenizer.eos_token_id
        return self._encode(texts, self.prefix_ids, np.array([eos]))

    def encode_rendered(self, texts: Texts) -> EncodedPairs:
        """Return the ids of conversations that `render` turned into text."""
        return self._encode(texts, [], np.array(self.tokenizer.all_special_ids))

    def _encode(self, texts: Texts, prefix: list[int], ends: NDArray[np.int64]) -> EncodedPairs:
        # Pairs of one prompt are often adjacent: each distinct text goes through the tokenizer once.
        distinct = list(dict.fromkeys((*texts.prompts, *texts.chosen, *texts.rejected)))
        numbers = {text: number for number, text in enumerate(distinct)}
        encoded = self.encode(distinct)
        prompts, chosen, rejected = (
            encoded.take(np.fromiter(map(numbers.__getitem__, side), np.int64, len(side)))
            for side in (texts.prompts, texts.chosen, texts.rejected)
        )
        eos = self.tokenizer.eos_token_id
        return EncodedPairs(
            _with_prefix(prompts, prefix),
            _with_end(chosen, ends, eos),
            _with_end(rejected, ends, eos),
            self._count_seams(texts),
        )

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the ids of texts, without any added token."""
        if self._backend is None:
            ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        else:
            # At every call: the tokenizer is the user's own, who may have turned either on since the last one.
            self._backend = _without_truncation_and_padding(self._backend)
            ids = [encoding.ids for encoding in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, ids), np.int64, len(ids)), out=offsets[1:])
        return Ragged(np.fromiter(chain.from_iterable(ids), np.int32, offsets[-1]), offsets)

    def render(
        self,
        prompts: list[Messages],
        chosen: list[Messages],
        rejected: list[Messages],
        tools: Sequence[str | None] | None = None,
    ) -> Texts:
        """Return conversations as text: a prompt up to its generation prompt, and a response as the rest.

        Args:
            prompts: messages of each prompt.
            chosen: messages of each chosen response.
            rejected: messages of each rejected response.
            tools: the tools of each conversation, as JSON.
        """
        texts = Texts([], [], [], {})
        tools = [None] * len(prompts) if tools is None else tools
        for row, messages in enumerate(zip(prompts, chosen, rejected, strict=True)):
            prompt, first, second = map(_for_template, messages)
            sides, reason = self._render_pair(prompt, first, second, tools[row])
            if reason:
                texts.refused[row] = reason
            for column, text in zip((texts.prompts, texts.chosen, texts.rejected), sides, strict=True):
                column.append(text)
        return texts

    def _render_pair(
        self, prompt: Messages, chosen: Messages, rejected: Messages, tools: str | None
    ) -> tuple[tuple[str, str, str], str]:
        """Return the texts of a pair, and why it is refused; empty where it is not."""
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            start = self._apply(prompt, tools, add_generation_prompt=True)
            wholes = [
                self._apply(prompt + response, tools, add_generation_prompt=False) for response in (chosen, rejected)
            ]
        except TemplateSyntaxError as error:
            raise UsageError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno}).\n"
                f"  Fix it, or give another with {argument('chat_template')}."
            ) from error
        except (TemplateError, TypeError, KeyError, IndexError, ValueError):
            return ("", "", ""), TEMPLATE_REFUSED
        if not all(whole.startswith(start) for whole in wholes):
            return ("", "", ""), TEMPLATE_REWRITES_PROMPT
        first, second = (self._drop_space_after_end(whole[len(start) :]) for whole in wholes)
        return (start, first, second), ""

    def _apply(self, messages: Messages, tools: str | None, *, add_generation_prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            messages,
            tools=json.loads(tools) if tools else None,
            chat_template=self.chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        return text

    def _drop_space_after_end(self, response: str) -> str:
        stripped = response.rstrip()
        return stripped if stripped.endswith(tuple(self.tokenizer.all_special_tokens)) else response

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


def _for_template(messages: Messages) -> Messages:
    """Return messages as chat templates take them: without empty fields, and tool calls as objects instead of JSON."""
    if len(messages) == 0 or "tool_calls" not in messages[0]:
        return messages
    return [
        {
            name: json.loads(value) if name == "tool_calls" else value
            for name, value in message.items()
            if value is not None
        }
        for message in messages
    ]


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


def _with_end(ids: Ragged, ends: NDArray[np.int64], eos: int) -> Ragged:
    """Return each sequence with `eos` after it, unless it ends with one of `ends`."""
    filled = ids.lengths > 0
    ended = np.zeros(len(filled), bool)
    ended[filled] = np.isin(ids.values[ids.offsets[1:][filled] - 1], ends)
    values = np.insert(ids.values, ids.offsets[1:][~ended], eos)
    return Ragged(values, _offsets(ids.lengths + ~ended))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
