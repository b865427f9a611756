"""The library that encodes: fastokens where its ids are those of tokenizers, and tokenizers everywhere else."""

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from token_caches import ROWS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dpo_data.errors import UsageError
from dpo_data.reports.terminal.tokenize import tokens
from dpo_data.tokens import engines
from dpo_data.tokens.cache import TokenCache, tokenize
from dpo_data.tokens.engines import EnginesDiffer, FastEngine, encode_with_tokenizers, open_engine, probe_texts

fastokens = pytest.importorskip("fastokens")

WORDS = ["ab", "abc", "Ġa", "Ġab", "ĠĠ", "12"]


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    """A byte-level BPE tokenizer with a few merges and a special token."""
    vocab = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for word in WORDS:
        vocab[word] = len(vocab)
    merges = [("a", "b"), ("ab", "c"), ("Ġ", "a"), ("Ġa", "b"), ("Ġ", "Ġ"), ("1", "2")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


@pytest.fixture(scope="module")
def engine(backend: Tokenizer) -> FastEngine:
    found = open_engine(backend, "fastokens")
    assert isinstance(found, FastEngine)
    return found


class Planted:
    """A tokenizer of fastokens with a fault: other ids for texts with a word, or an error for them."""

    def __init__(self, real: Any, word: str, *, raises: bool = False) -> None:
        self.real, self.word, self.raises = real, word, raises

    def encode_batch_flat(self, texts: list[str]) -> tuple[bytes, bytes]:
        if self.raises and any(self.word in text for text in texts):
            raise ValueError("planted")
        return self.real.encode_batch_flat([text.replace(self.word, "x") for text in texts])  # type: ignore[no-any-return]

    def encode(self, text: str) -> Any:
        if self.raises and self.word in text:
            raise ValueError("planted")
        return self.real.encode(text.replace(self.word, "x"))


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that plants a fault in every tokenizer that fastokens opens."""

    def plant(word: str, *, raises: bool = False) -> None:
        class Fake:
            @staticmethod
            def from_json_str(text: str) -> Planted:
                return Planted(real.from_json_str(text), word, raises=raises)

        monkeypatch.setattr("fastokens.Tokenizer", Fake)

    real = fastokens.Tokenizer
    return plant


def files(cache: TokenCache) -> dict[str, bytes]:
    """Return all files of a token cache, apart from its provenance."""
    paths = (path for path in sorted(cache.path.rglob("*")) if path.is_file() and path.name != "provenance.json")
    return {path.relative_to(cache.path).as_posix(): path.read_bytes() for path in paths}


def engine_of(cache: TokenCache) -> str:
    return str(json.loads((cache.path / "provenance.json").read_text())["tokenizer_engine"])


@given(texts=st.lists(st.one_of(st.text("abc 12<eos>\n\t\u00e9", max_size=12), st.text(max_size=20)), max_size=20))
@settings(deadline=None)
def test_both_libraries_give_the_same_ids(backend: Tokenizer, engine: FastEngine, texts: list[str]) -> None:
    expected, found = encode_with_tokenizers(backend, texts), engine.encode(texts)
    assert found.values.dtype == expected.values.dtype
    assert (found.values.tolist(), found.offsets.tolist()) == (expected.values.tolist(), expected.offsets.tolist())


def test_the_bytes_and_the_key_of_a_cache_do_not_depend_on_the_library(make_prepared, byte_tokenizer, tmp_path):
    prepared = make_prepared(ROWS)
    fast, slow = (
        tokenize(prepared, tokenizer=byte_tokenizer, tokenizer_engine=engine, cache_dir=tmp_path / engine)
        for engine in ("fastokens", "tokenizers")
    )
    assert engine_of(fast) == "fastokens 0.3.5"
    assert engine_of(slow).startswith("tokenizers ")
    assert fast.path.name == slow.path.name
    assert files(fast) == files(slow)


def test_a_library_that_fails_the_probe_is_not_used(backend: Tokenizer, plant) -> None:
    plant("1234")
    assert "gives other ids than tokenizers for" in str(open_engine(backend))
    with pytest.raises(UsageError, match="cannot be used: fastokens gives other ids"):
        open_engine(backend, "fastokens")


def test_a_difference_in_the_data_makes_the_cache_again_with_tokenizers(
    make_prepared, byte_tokenizer, tmp_path: Path, plant
) -> None:
    prepared = make_prepared(ROWS)
    plant("a bow")
    cache = tokenize(prepared, tokenizer=byte_tokenizer, tokenizer_engine="fastokens", cache_dir=tmp_path / "fast")
    assert engine_of(cache).startswith("tokenizers ")
    assert "fastokens gives other ids than tokenizers for ' a bow'" in engine_of(cache)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tokens(cache))
    assert "fastokens gives other ids" in console.export_text()
    right = tokenize(prepared, tokenizer=byte_tokenizer, tokenizer_engine="tokenizers", cache_dir=tmp_path / "slow")
    assert files(cache) == files(right)


def test_a_sample_of_later_texts_is_compared_too(backend: Tokenizer, plant) -> None:
    plant("zebra")
    engine = open_engine(backend)
    assert isinstance(engine, FastEngine)
    for _ in range(5):
        engine.encode(["a horse"] * 100)
    with pytest.raises(EnginesDiffer, match="zebra"):
        engine.encode(["a zebra"] * engines.SAMPLE_EVERY)


def test_a_text_that_fastokens_refuses_is_encoded_by_tokenizers_and_the_others_are_not(backend, plant) -> None:
    plant("zebra", raises=True)
    engine = open_engine(backend)
    assert isinstance(engine, FastEngine)
    texts = ["abc", "a zebra", "12 ab"]
    assert engine.encode(texts).values.tolist() == encode_with_tokenizers(backend, texts).values.tolist()


def test_a_version_that_was_not_compared_is_used_only_where_it_is_chosen(backend, monkeypatch) -> None:
    monkeypatch.setattr(engines, "PROVEN_VERSIONS", ("0.0.1",))
    assert open_engine(backend) == "fastokens 0.3.5 is not one of the compared versions (0.0.1)"
    assert isinstance(open_engine(backend, "fastokens"), FastEngine)


def test_a_tokenizer_that_fastokens_cannot_load_is_left_to_tokenizers() -> None:
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    assert "fastokens cannot load the tokenizer" in str(open_engine(unigram))


def test_short_text_is_left_to_tokenizers_unless_fastokens_is_chosen(backend: Tokenizer) -> None:
    assert open_engine(backend, text_bytes=1000) == "the text is short"
    assert isinstance(open_engine(backend, "fastokens", text_bytes=1000), FastEngine)


def test_a_slow_tokenizer_cannot_be_opened_by_fastokens() -> None:
    assert open_engine(None) == "fastokens does not take such a tokenizer"


def test_the_probe_has_every_byte_and_every_category_of_characters(backend: Tokenizer) -> None:
    text = "".join(probe_texts(backend))
    assert set(map(chr, range(256))) <= set(text)
    every = {unicodedata.category(chr(code)) for code in range(0x110000)} - {"Cs"}  # surrogates are no characters
    assert {unicodedata.category(character) for character in text} >= every
    assert "<eos>" in text
