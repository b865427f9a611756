"""`validate --deep` encodes the text of every token cache again with tokenizers."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from token_caches import MESSAGES, ROWS

from dpo_data.inspect.validation import validate
from dpo_data.prepared.reader import open_prepared
from dpo_data.reports.terminal.validate import validation
from dpo_data.tokens.cache import tokenize
from dpo_data.tokens.comparison import TokenComparison, compare_tokens
from dpo_data.tokens.encoder import Encoder


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch):
    """Return a function that lets every encoder read another word, and returns how to undo it."""
    encode = Encoder.encode

    def plant(word: str, other: str = "x") -> Callable[[], None]:
        monkeypatch.setattr(
            Encoder, "encode", lambda self, texts: encode(self, [text.replace(word, other) for text in texts])
        )
        return monkeypatch.undo

    return plant


@pytest.mark.parametrize("rows", [ROWS, MESSAGES], ids=["text", "conversational"])
@pytest.mark.parametrize("options", [{"max_length": 24}, {"max_length": 12}, {"max_length": None}])
def test_the_ids_of_a_cache_are_those_of_its_text(make_prepared, byte_tokenizer, chat_tokenizer, rows, options) -> None:
    tokenizer = byte_tokenizer if rows is ROWS else chat_tokenizer
    cache = tokenize(make_prepared(rows, form="auto"), tokenizer=tokenizer, **options)
    found, wrong = compare_tokens(cache, open_prepared(cache.path.parent.parent), tokenizer)
    assert (found.pairs, found.different, found.not_compared, wrong) == (
        cache.manifest.splits["train"].pairs, 0, None, {},
    )  # fmt: skip


def test_other_ids_are_counted_and_located(make_prepared, byte_tokenizer, plant) -> None:
    prepared = make_prepared(ROWS)
    undo = plant("Hello")
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=24)
    undo()
    found, wrong = compare_tokens(cache, open_prepared(prepared), byte_tokenizer)
    assert found == TokenComparison(pairs=3, different=1)
    [(file, text)] = wrong.items()
    assert file == cache.manifest.shards["train"][0].file
    assert "other ids than tokenizers gives for 1 of 3 pairs, first" in text
    assert ":2: remove" in text


def test_validate_deep_reports_the_planted_cache_as_damaged(make_prepared, byte_tokenizer, plant) -> None:
    prepared = make_prepared(ROWS)
    undo = plant("Hello")
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=24)
    undo()
    assert validate(prepared, tokenizer=byte_tokenizer).damage == {}
    report = validate(prepared, tokenizer=byte_tokenizer, deep=True)
    assert report.token_comparisons == {cache.path.name: TokenComparison(pairs=3, different=1)}
    assert list(report.damage) == [f"tokens/{cache.path.name}/{cache.manifest.shards['train'][0].file}"]
    assert report.worst() == "error"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(validation(report))
    assert "1 of 3 pairs have other ids than tokenizers gives." in console.export_text()


@pytest.mark.parametrize("planted_first", [True, False])
def test_a_pair_that_only_one_of_the_two_drops_is_a_difference(
    make_prepared, byte_tokenizer, plant, planted_first
) -> None:
    prepared = make_prepared(ROWS)
    if planted_first:
        undo = plant(" bad day", " fine")
        cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=24)
        undo()
    else:
        cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=24)
        plant(" bad day", " fine")
    assert cache.manifest.splits["train"].pairs == (2 if planted_first else 3)
    found, wrong = compare_tokens(cache, open_prepared(prepared), byte_tokenizer)
    assert found.different == 1
    assert wrong


def test_a_cache_whose_tokenizer_or_template_is_not_at_hand_is_named(
    make_prepared, byte_tokenizer, chat_tokenizer, tmp_path: Path
) -> None:
    prepared = make_prepared(ROWS)
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=24)
    found, wrong = compare_tokens(cache, open_prepared(prepared))
    assert found.not_compared
    assert found.pairs == 0
    assert wrong == {}
    chats = make_prepared(MESSAGES, "chats", form="conversational")
    template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    cache = tokenize(chats, tokenizer=chat_tokenizer, chat_template=template)
    found, _ = compare_tokens(cache, open_prepared(chats), chat_tokenizer)
    assert "--chat-template" in str(found.not_compared)
    found, _ = compare_tokens(cache, open_prepared(chats), chat_tokenizer, template)
    assert found == TokenComparison(pairs=1)
