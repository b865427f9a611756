"""The library that turns texts into ids: tokenizers, or fastokens where it gives the same ids in less time.

The ids never depend on the library. fastokens is compared with tokenizers on a fixed probe before it is used and on a
sample of the texts while it is used; at the first difference, tokenizers does all the work again.
"""

import unicodedata
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from dpo_data.errors import UsageError
from dpo_data.excerpts import beginning
from dpo_data.options import TokenizerEngine
from dpo_data.ragged import Ragged, equal_rows, from_lists, joined

#: Versions of fastokens that gave the ids of tokenizers for every text of a large comparison; docs/tokenizing.md.
PROVEN_VERSIONS = ("0.3.5",)
#: Characters of texts in one call of tokenizers, which takes tens of times their memory.
CALL_CHARS = 8 << 20
#: The first texts of a run that both libraries encode, and the distance of those that both encode after them.
FIRST_TEXTS = 128
SAMPLE_EVERY = 64
SHOWN_CHARACTERS = 40
#: Beginning of the message about a difference.
DIFFERENCE = "fastokens gives other ids than tokenizers for"
#: Bytes of text from which on opening fastokens, in half a second, pays.
MIN_TEXT_BYTES = 8 << 20


class EnginesDiffer(Exception):
    """A text for which fastokens gives other ids than tokenizers."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{DIFFERENCE} {beginning(text, SHOWN_CHARACTERS)!r}")


class FastEngine:
    """A tokenizer of fastokens, watched by the same one of tokenizers.

    Attributes:
        name: the library and its version.
    """

    def __init__(self, backend: Any, fast: Any, name: str) -> None:
        self.name = name
        self._backend = backend
        self._fast = fast
        self._texts = 0

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the ids of texts, without any added token.

        Raises: EnginesDiffer: a text of the sample has other ids with tokenizers.
        """
        ids = self._encode(list(texts))
        first = max(0, FIRST_TEXTS - self._texts)
        sample = [*range(min(first, len(texts))), *range(first + -self._texts % SAMPLE_EVERY, len(texts), SAMPLE_EVERY)]
        self._texts += len(texts)
        self._compare([texts[number] for number in sample], ids.take(np.array(sample, np.int64)))
        return ids

    def probe(self, texts: Sequence[str]) -> None:
        """Raise EnginesDiffer if a text has other ids with tokenizers."""
        self._compare(texts, self._encode(list(texts)))

    def _compare(self, texts: Sequence[str], ids: Ragged) -> None:
        equal = equal_rows(encode_with_tokenizers(self._backend, texts), ids)
        if not equal.all():
            raise EnginesDiffer(texts[int(np.argmin(equal))])

    def _encode(self, texts: list[str]) -> Ragged:
        if not texts:
            return from_lists([])
        try:
            values, offsets = self._fast.encode_batch_flat(texts)
        except BaseException as error:
            _require_failure(error)
            return from_lists([self._encode_one(text) for text in texts])
        return Ragged(np.frombuffer(values, "<u4").astype(np.int32), np.frombuffer(offsets, "<u8").astype(np.int64))

    def _encode_one(self, text: str) -> list[int]:
        try:
            return list(self._fast.encode(text).ids)
        except BaseException as error:  # as for bytes that the vocabulary lacks
            _require_failure(error)
            return list(self._backend.encode(text, add_special_tokens=False).ids)


def open_engine(backend: Any, choice: TokenizerEngine = "auto", text_bytes: int = MIN_TEXT_BYTES) -> FastEngine | str:
    """Return fastokens for a tokenizer of the tokenizers library, or why tokenizers is used.

    Args:
        backend: of the tokenizers library, or None for a tokenizer that is written in Python.
        choice: of the user.
        text_bytes: size of the text, as it is stored.

    Raises: UsageError: the choice is fastokens, and it cannot be used.
    """
    if choice == "auto" and text_bytes < MIN_TEXT_BYTES:
        return "the text is short"
    found = _open_fast(backend, choice) if choice != "tokenizers" else "it was chosen"
    if choice == "fastokens" and isinstance(found, str):
        raise UsageError(f"cannot be used: {found}.\n  Choose auto or tokenizers.", "tokenizer_engine", choice)
    return found


def _open_fast(backend: Any, choice: TokenizerEngine) -> FastEngine | str:
    try:
        from fastokens import Tokenizer

        installed = version("fastokens")
    except (ImportError, PackageNotFoundError):
        return "fastokens is not installed"
    if installed not in PROVEN_VERSIONS and choice == "auto":
        return f"fastokens {installed} is not one of the compared versions ({', '.join(PROVEN_VERSIONS)})"
    if backend is None or backend.encode_special_tokens:
        return "fastokens does not take such a tokenizer"
    try:
        engine = FastEngine(backend, Tokenizer.from_json_str(backend.to_str()), f"fastokens {installed}")
        engine.probe(probe_texts(backend))
    except EnginesDiffer as error:
        return str(error)
    except BaseException as error:
        _require_failure(error)
        return f"fastokens cannot load the tokenizer ({beginning(str(error), SHOWN_CHARACTERS)})"
    return engine


def _require_failure(error: BaseException) -> None:
    """Raise the error if it is no failure of fastokens; one that it calls a panic is not an Exception."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def probe_texts(backend: Any) -> list[str]:
    """Return texts in which tokenizers may differ.

    Every character of one byte, characters of every Unicode category and block, white space, long words, numbers,
    contractions, and each added token in several surroundings.
    """
    ordinary = [
        *map(chr, range(256)),
        *(chr(code) for code in range(0x100, 0x30000, 61) if not 0xD800 <= code < 0xE000),
    ]
    rare = "\u2028\u2029\u01c5\u20dd\ue000\u0378\ufeff\ufffd\uffff\U0001f468\u200d\U0001f469\U0010ffff\u0301"
    texts = [*ordinary[:256], "".join(ordinary), rare, *rare]
    texts += [f"a{character} {character}B {character}{character}1" for character in ordinary[::3]]
    for space in (" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", " \n"):
        texts += [f"a{space * count}b{space * count}" for count in (*range(1, 18), 31, 32, 33, 100)]
    texts += [
        word * count for word in ("a", "Ab", "9", "-", "=", "ж", "你", "👍🏽", "e\u0301") for count in (3, 50, 2000)
    ]
    texts += [
        "I'm you're HE'LL she'd WE'VE it's 'tis don’t",
        "12 123 1234 12345678901234567890 3.14159 1,000,000 ½ ² Ⅷ ٣",
        "def f(x):\n    return {'a': [1, 2]}  # https://example.org/a_b?c=d&e=%20f\n\tcamelCaseWord snake_case_word",
        "\n\nHuman: Hello\n\nAssistant: Hi there!\n\n\nHuman:\n\nAssistant:",
        *(unicodedata.normalize(form, "Ångström ﬁ Å é ô ḍ̇ 각 ｶﾞ") for form in ("NFC", "NFD", "NFKC", "NFKD")),
    ]
    for token in (added.content for added in backend.get_added_tokens_decoder().values()):
        texts += [
            token,
            f"a{token}b",
            f" {token} ",
            f"\n{token}\n{token}{token}",
            token[:-1],
            token.upper(),
            token.lower(),
        ]
    return texts


def encode_with_tokenizers(backend: Any, texts: Sequence[str]) -> Ragged:
    """Return the ids of texts, without any added token, that the tokenizers library gives."""
    calls = [
        from_lists([encoding.ids for encoding in backend.encode_batch_fast(part, add_special_tokens=False)])
        for part in _parts(texts)
    ]
    return calls[0] if len(calls) == 1 else joined(calls)


def _parts(texts: Sequence[str]) -> list[list[str]]:
    """Return the texts in lists of about `CALL_CHARS` characters; one empty list if there are none."""
    parts: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size + len(text) > CALL_CHARS and parts[-1]:
            parts.append([])
            size = 0
        parts[-1].append(text)
        size += len(text)
    return parts
