"""One tokenizer as this project uses it: texts and conversations to ids, with begin and end decided once and for all.

It knows nothing of files or caches.
"""

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

from dpo_data.errors import InputError, UsageError
from dpo_data.prepared.files import hash_json
from dpo_data.ragged import Ragged, equal_rows
from dpo_data.tokens.manifest import TokenizerEntry

#: A response in a conversation that the template or the tokenizer cannot serve; the reasons in dropped.jsonl.
TEMPLATE_REFUSED = "template_refused"
TEMPLATE_REWRITES_PROMPT = "template_rewrites_prompt"

Messages = list[dict[str, Any]]

#: The word on either side of a seam, at most so many characters: what joint tokenization could merge.
SEAM_CHARS = 32
#: Seams that are remembered; the same few words stand around most of them.
MAX_SEAMS = 200_000
WORD = re.compile(r"\s*\S*\s*")


def load_tokenizer(name: str | Path) -> Any:
    """A tokenizer from a folder or from the hub, without running code of its own.

    Raises: InputError: it cannot be found or loaded.
    """
    from transformers import AutoTokenizer

    path = Path(name)
    if not path.exists() and (path.is_absolute() or path.parts[:1] == ("..",) or len(path.parts) > 2):
        raise InputError(
            f"{name}: there is no such folder.\n  Name a folder with tokenizer.json, or a model on the hub."
        )
    try:
        return AutoTokenizer.from_pretrained(str(name), trust_remote_code=False)
    except Exception as error:  # transformers raises many kinds, some of them for a file that is not there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{name}: the tokenizer cannot be loaded: {reason}.\n"
            "  Name a folder with tokenizer.json, or a model on the hub (which needs the network)."
        ) from error


def tokenizer_hash(tokenizer: Any) -> str:
    """128 bits, in hexadecimal, of all that decides a tokenizer's ids: model, normalisation, special tokens, template.

    Equal for one tokenizer loaded from two places; its settings for truncation and padding do not count.
    """
    if getattr(tokenizer, "is_fast", False):
        backend = _neither_cuts_nor_pads(tokenizer.backend_tokenizer)
        model: Any = hashlib.sha256(backend.to_str().encode()).hexdigest()
    else:
        model = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items())]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    # The ids too: the map leaves out tokens without a role of their own, and a turn may end with one of them.
    return hash_json([model, special, sorted(tokenizer.all_special_ids), tokenizer.chat_template])


def _neither_cuts_nor_pads(backend: Any) -> Any:
    """The tokenizer of the tokenizers library that was given, or a copy where cutting or padding is on in it."""
    if backend.truncation is None and backend.padding is None:
        return backend
    backend = type(backend).from_str(backend.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def tokenizer_entry(tokenizer: Any) -> TokenizerEntry:
    """What a token cache remembers of its tokenizer.

    Raises: UsageError: it has no end-of-sequence token.
    """
    require_eos(tokenizer)
    name = str(tokenizer.name_or_path)
    # Of a folder only its own name: one tokenizer in two places makes the same bytes.
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
    """Refuse a tokenizer without an end-of-sequence token.

    Raises: UsageError.
    """
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has no end-of-sequence token, and a model could never learn to "
            "stop.\n  Set eos_token in its tokenizer_config.json."
        )


@dataclass(frozen=True)
class Texts:
    """N pairs as the texts that are tokenized; a refused one has a reason, and empty texts."""

    prompts: list[str]
    chosen: list[str]
    rejected: list[str]
    refused: dict[int, str]


@dataclass(frozen=True)
class EncodedPairs:
    """N pairs as ids, begin and end tokens included, not yet cut; `seams` of their 2 N responses begin at a seam."""

    prompts: Ragged
    chosen: Ragged
    rejected: Ragged
    seams: int


class Encoder:
    """Tokenizes pairs in batches.

    A text prompt gets what the tokenizer puts before a text (BOS), a response the end-of-sequence token; neither is
    added where it stands already. In a conversation the template decides: it holds BOS, and a response that ends with
    a special token of the template's gets no further end.
    """

    def __init__(self, tokenizer: Any, chat_template: str | None = None) -> None:
        self.tokenizer = tokenizer
        self.chat_template = chat_template
        self._backend = tokenizer.backend_tokenizer if getattr(tokenizer, "is_fast", False) else None
        self.prefix_ids = self._find_prefix()
        self._seams: dict[tuple[str, str], np.bool_] = {}

    @property
    def bos_token_id(self) -> int | None:
        """What a prompt begins with, and goes on beginning with when it is cut; None where that is no token."""
        id_: int | None = self.prefix_ids[0] if self.prefix_ids else self.tokenizer.bos_token_id
        return id_

    @property
    def in_threads(self) -> bool:
        """Whether several threads may use it at once: a tokenizer written in Python promises nothing of the kind."""
        return self._backend is not None

    def encode_texts(self, texts: Texts) -> EncodedPairs:
        """The ids of text pairs."""
        eos = self.tokenizer.eos_token_id
        return self._encode(texts, self.prefix_ids, np.array([eos]))

    def encode_rendered(self, texts: Texts) -> EncodedPairs:
        """The ids of conversations that `render` has turned into text."""
        return self._encode(texts, [], np.array(self.tokenizer.all_special_ids))

    def _encode(self, texts: Texts, prefix: list[int], ends: NDArray[np.int64]) -> EncodedPairs:
        count = len(texts.prompts)
        # Pairs of one prompt often stand together: each distinct text goes through the tokenizer once.
        places = {
            text: place for place, text in enumerate(dict.fromkeys((*texts.prompts, *texts.chosen, *texts.rejected)))
        }
        distinct = self.encode(list(places))
        of = [
            distinct.take(np.fromiter(map(places.__getitem__, side), np.int64, count))
            for side in (texts.prompts, texts.chosen, texts.rejected)
        ]
        eos = self.tokenizer.eos_token_id
        return EncodedPairs(
            _with_prefix(of[0], prefix),
            _with_end(of[1], ends, eos),
            _with_end(of[2], ends, eos),
            self._count_seams(texts),
        )

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The ids of texts, without any token added."""
        if self._backend is None:
            ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        else:
            # Asked each time: it is the user's own, who may have switched both on since.
            self._backend = _neither_cuts_nor_pads(self._backend)
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
        """Conversations as text: the prompt with its generation prompt, a response as what the template adds.

        Args:
            tools: the tools of each conversation, as JSON; none where None.
        """
        texts = Texts([], [], [], {})
        of_rows = [None] * len(prompts) if tools is None else tools
        for index, (prompt, one, other, usable) in enumerate(zip(prompts, chosen, rejected, of_rows, strict=True)):
            sides, reason = self._render_pair(_for_template(prompt), _for_template(one), _for_template(other), usable)
            if reason:
                texts.refused[index] = reason
            for column, text in zip((texts.prompts, texts.chosen, texts.rejected), sides, strict=True):
                column.append(text)
        return texts

    def _render_pair(
        self, prompt: Messages, chosen: Messages, rejected: Messages, tools: str | None
    ) -> tuple[tuple[str, str, str], str]:
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            start = self._apply(prompt, tools, add_generation_prompt=True)
            wholes = [
                self._apply(prompt + response, tools, add_generation_prompt=False) for response in (chosen, rejected)
            ]
        except TemplateSyntaxError as error:
            raise UsageError(
                f"the chat template is not valid Jinja: {error.message} (line {error.lineno}).\n"
                "  Mend it, or give another: --chat-template FILE."
            ) from error
        except (TemplateError, TypeError, KeyError, IndexError, ValueError):
            return ("", "", ""), TEMPLATE_REFUSED
        if not all(whole.startswith(start) for whole in wholes):
            return ("", "", ""), TEMPLATE_REWRITES_PROMPT
        one, other = (self._drop_space_after_end(whole[len(start) :]) for whole in wholes)
        return (start, one, other), ""

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
        """The ids that the tokenizer puts before a text by itself: BOS, in most that have any."""
        probe = self.encode(["a"]).values.tolist()
        whole = list(self.tokenizer("a")["input_ids"])
        for start in range(len(whole) - len(probe) + 1):
            if whole[start : start + len(probe)] == probe:
                return whole[:start]
        return []

    def _count_seams(self, texts: Texts) -> int:
        """How many responses would begin with other tokens if they were tokenized in one piece with their prompt.

        Only the words beside the seam are tokenized for it: tokenizers do not merge across white space.
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
        # Both words of a seam stand side by side in `apart`.
        equal = equal_rows(Ragged(apart.values, apart.offsets[::2]), joint)
        known.update(zip(new, ~equal, strict=True))
        return int(sum(known[seam] for seam in seams))


def _for_template(messages: Messages) -> Messages:
    """Messages as chat templates take them: without empty fields, and calls of tools as objects, not as JSON."""
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
    """The first word of a text, at most `SEAM_CHARS` of it, with the white space around it.

    >>> first_word(" Hello, you")
    ' Hello, '
    """
    found = WORD.match(text[:SEAM_CHARS])
    return found[0] if found else ""


def last_word(text: str) -> str:
    """The last word of a text, at most `SEAM_CHARS` of it, with the white space around it.

    >>> last_word("Do you say Hello? ")
    ' Hello? '
    """
    # Backwards: a search for the end would try every place before it.
    return first_word(text[: -SEAM_CHARS - 1 : -1])[::-1]


def _with_prefix(ids: Ragged, prefix: list[int]) -> Ragged:
    """Each sequence behind the prefix, unless it begins with it."""
    if not prefix:
        return ids
    there = np.array(
        [ids.values[start : start + len(prefix)].tolist() == prefix for start in ids.offsets[:-1]], dtype=bool
    )
    starts = ids.offsets[:-1][~there]
    values = np.insert(ids.values, np.repeat(starts, len(prefix)), np.tile(prefix, len(starts)))
    return Ragged(values, _offsets(ids.lengths + ~there * len(prefix)))


def _with_end(ids: Ragged, ends: NDArray[np.int64], eos: int) -> Ragged:
    """Each sequence with `eos` after it, unless it ends with one of `ends`."""
    filled = ids.lengths > 0
    ended = np.zeros(len(filled), bool)
    ended[filled] = np.isin(ids.values[ids.offsets[1:][filled] - 1], ends)
    values = np.insert(ids.values, ids.offsets[1:][~ended], eos)
    return Ragged(values, _offsets(ids.lengths + ~ended))


def _offsets(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)])
