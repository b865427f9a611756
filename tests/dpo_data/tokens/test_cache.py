"""When a token cache is found, and when which of its shards are made."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from token_caches import MESSAGES, ROWS, contents, decoded, dropped, flip_bit, pair, rows_of, times
from transformers import ByT5Tokenizer

from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens import cache
from dpo_data.tokens.cache import find_tokens, list_tokens, open_tokens, tokenize
from dpo_data.tokens.encoder import tokenizer_hash

# Hits and keys.


def test_a_second_call_is_a_hit_and_rewrites_nothing(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    first = tokenize(prepared, tokenizer=byte_tokenizer)
    before = times(prepared)
    calls: list[int] = []
    second = tokenize(prepared, tokenizer=byte_tokenizer, progress=lambda fraction, rows: calls.append(rows))
    assert (first.hit, second.hit) == (False, True)
    assert second == first
    assert calls == []
    assert times(prepared) == before


def test_find_tokens_finds_what_tokenize_made_and_makes_nothing(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    before = times(prepared)
    assert find_tokens(prepared, tokenizer=byte_tokenizer) is None
    assert times(prepared) == before
    made = tokenize(prepared, tokenizer=byte_tokenizer)
    assert find_tokens(prepared, tokenizer=byte_tokenizer) == made
    assert find_tokens(prepared, tokenizer=byte_tokenizer, max_length=20) is None


def test_the_same_tokenizer_in_another_folder_is_a_hit(make_prepared, byte_tokenizer, tmp_path):
    for name in ("one", "other"):
        byte_tokenizer.save_pretrained(tmp_path / name)
    prepared = make_prepared(ROWS)
    assert not tokenize(prepared, tokenizer=tmp_path / "one").hit
    assert tokenize(prepared, tokenizer=str(tmp_path / "other")).hit
    assert tokenize(prepared, tokenizer=byte_tokenizer).hit


def test_every_option_changes_the_key(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    options = [
        {},
        {"max_length": 20},
        {"max_length": None},
        {"max_prompt_length": 5},
        {"truncation_mode": "keep_start"},
        {"on_overlong": "drop"},
        {"on_overlong": "fail"},
    ]
    caches = [tokenize(prepared, tokenizer=byte_tokenizer, **option) for option in options]
    assert len({cache.path for cache in caches}) == len(options)
    assert [cache.hit for cache in caches] == [False] * len(options)


def test_other_rows_change_the_key(make_prepared, byte_tokenizer, tmp_path):
    cached = [
        tokenize(make_prepared(rows, name=name), tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
        for name, rows in (("one", ROWS), ("fewer", ROWS[:2]), ("swapped", ROWS[::-1]), ("again", ROWS))
    ]
    assert [cache.hit for cache in cached] == [False, False, False, True]
    assert cached[0] == cached[3]


def test_another_tokenizer_or_template_changes_the_key(make_prepared, make_tokenizer):
    template = "{% for m in messages %}{{ m.content }}|{% endfor %}"
    prepared = make_prepared(MESSAGES, form="conversational")
    caches = [
        tokenize(prepared, tokenizer=make_tokenizer(template=template)),
        tokenize(prepared, tokenizer=make_tokenizer(template=template, corpus=["quite another text"])),
        tokenize(prepared, tokenizer=make_tokenizer(template=template, eos_token="<|im_end|>")),
        tokenize(prepared, tokenizer=make_tokenizer(template=template.replace("|", "!"))),
        tokenize(prepared, tokenizer=make_tokenizer(template=template), chat_template=template.replace("|", "?")),
        tokenize(prepared, tokenizer=make_tokenizer(template=template), chat_template=template.replace("|", ".")),
    ]
    assert len({cache.path for cache in caches}) == len(caches)
    assert tokenize(prepared, tokenizer=make_tokenizer(template=template)).hit


def test_the_key_of_fixed_rows_and_a_fixed_tokenizer_is_fixed(make_prepared, byte_tokenizer):
    """A change here makes every existing cache a miss: raise TOKENS_VERSION and mention it in the CHANGELOG.

    The values also depend on how the pinned versions write tokenizer.json and Arrow streams.
    """
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=20, max_prompt_length=5)
    assert tokenizer_hash(byte_tokenizer) == "0c8b4b5603357c34077ba1d79b904a11"
    assert cache.manifest.key == cache.path.name == "9c85eec69ffc2816"


def test_the_working_directory_does_not_change_the_bytes(make_prepared, byte_tokenizer, tmp_path, monkeypatch):
    prepared = make_prepared(ROWS)
    byte_tokenizer.save_pretrained(tmp_path / "toy")
    made = []
    for working_directory, tokenizer in ((tmp_path, "toy"), (prepared, "../toy"), (Path("/"), tmp_path / "toy")):
        monkeypatch.chdir(working_directory)
        cache_dir = tmp_path / f"cache{len(made)}"
        made.append(contents(tokenize(prepared, tokenizer=tokenizer, cache_dir=cache_dir).path))
    assert made[0] == made[1] == made[2]
    assert "manifest.json" in made[0]


class Busy(ByT5Tokenizer):
    """A tokenizer written in Python that fails if a second thread calls it meanwhile."""

    held = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.held += 1
        assert self.held == 1
        time.sleep(0.02)
        encoded = super().__call__(*args, **options)
        self.held -= 1
        return encoded


def test_a_tokenizer_written_in_python_is_called_by_one_thread_at_a_time(make_prepared, monkeypatch):
    monkeypatch.setattr("dpo_data.tokens.cache.BATCH_ROWS", 1)
    assert tokenize(make_prepared(ROWS), tokenizer=Busy()).manifest.splits["train"].pairs == len(ROWS)


@pytest.mark.parametrize("limit", ["BATCH_ROWS", "BATCH_BYTES"])
def test_the_batch_size_does_not_change_the_ids(make_prepared, byte_tokenizer, tmp_path, monkeypatch, limit):
    prepared = make_prepared(ROWS)
    whole = tokenize(prepared, tokenizer=byte_tokenizer)
    monkeypatch.setattr(f"dpo_data.tokens.cache.{limit}", 1)
    single = tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
    assert rows_of(single) == rows_of(whole)
    assert single.manifest.splits == whole.manifest.splits


def test_list_tokens_returns_the_caches_of_the_present_text(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS[:2])
    old = tokenize(prepared, tokenizer=byte_tokenizer)
    assert list_tokens(open_prepared(prepared)) == [old]
    make_prepared(ROWS, overwrite=True)
    assert list_tokens(open_prepared(prepared)) == []
    new = [tokenize(prepared, tokenizer=byte_tokenizer, max_length=length) for length in (20, 30)]
    assert list_tokens(open_prepared(prepared)) == sorted(new, key=lambda cache: cache.manifest.key)
    assert open_tokens(old.path) == old


# Shards.


@pytest.fixture
def _two_rows_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_data.prepared.writer.SHARD_ROWS", 2)


@pytest.fixture
def progress() -> Iterator[Callable[[float | None, int], None]]:
    def note(fraction: float | None, rows: int) -> None:
        note.calls.append((fraction, rows))

    note.calls = []
    return note


#: Three shards of two rows; the second row is dropped at 10 tokens.
MORE_ROWS = [
    ROWS[0],
    pair("Hi", "same start, good end", "same start, bad end"),
    ROWS[1],
    ROWS[2],
    pair("And", " what", " not"),
]


@pytest.mark.usefixtures("_two_rows_a_shard")
def test_only_new_shards_are_tokenized_and_the_result_is_the_same(make_prepared, byte_tokenizer, tmp_path, progress):
    prepared = make_prepared(MORE_ROWS[:4])
    old = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10)
    before = contents(old.path)
    make_prepared(MORE_ROWS, overwrite=True)
    new = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10, progress=progress)
    assert progress.calls == [(1.0, 5)]  # one batch: the shard of the fifth row
    assert [shard.counts.pairs_read for shard in new.manifest.shards["train"]] == [2, 2, 1]
    assert [(row["origin"], row["reason"]) for row in dropped(new)] == [("raw/pairs.jsonl:2", "equal_responses")]
    assert new.manifest.splits["train"].dropped == {"equal_responses": 1}
    assert contents(old.path) == before
    fresh = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10, cache_dir=tmp_path / "cache")
    assert contents(new.path) == contents(fresh.path)


@pytest.mark.usefixtures("_two_rows_a_shard")
def test_a_changed_row_costs_the_tokenization_of_its_own_shard(make_prepared, byte_tokenizer, progress):
    prepared = make_prepared(MORE_ROWS)
    tokenize(prepared, tokenizer=byte_tokenizer)
    make_prepared([*MORE_ROWS[:2], pair("Now", " else", " not"), *MORE_ROWS[3:]], overwrite=True)
    new = tokenize(prepared, tokenizer=byte_tokenizer, progress=progress)
    assert progress.calls == [(0.8, 4)]
    assert decoded(new, byte_tokenizer)[2] == ("Now", " else</s>", " not</s>")


@pytest.mark.usefixtures("_two_rows_a_shard")
def test_shards_of_other_options_are_not_reused(make_prepared, byte_tokenizer, progress):
    prepared = make_prepared(MORE_ROWS)
    tokenize(prepared, tokenizer=byte_tokenizer, max_length=100)
    tokenize(prepared, tokenizer=byte_tokenizer, max_length=101, progress=progress)
    assert [rows for _, rows in progress.calls] == [2, 4, 5]


@pytest.mark.parametrize("damaged", ["shard", "dropped"])
@pytest.mark.usefixtures("_two_rows_a_shard")
def test_a_damaged_cache_is_not_reused(make_prepared, byte_tokenizer, tmp_path, damaged):
    prepared = make_prepared(MORE_ROWS[:4])
    old = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10)
    flip_bit(old.path / (old.manifest.shards["train"][0].file if damaged == "shard" else "dropped.jsonl"))
    make_prepared(MORE_ROWS, overwrite=True)
    new = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10)
    fresh = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10, cache_dir=tmp_path / "cache")
    assert contents(new.path) == contents(fresh.path)


def test_long_rows_are_tokenized_few_at_a_time(make_prepared, byte_tokenizer, monkeypatch):
    rows = [{"prompt": f"Q{n}?", "chosen": "a" * 400, "rejected": "b" * 400} for n in range(8)]
    calls: list[int] = []
    encode_rows = cache.encode_rows

    def counted(*arguments: Any) -> Any:
        calls.append(arguments[2].num_rows)
        return encode_rows(*arguments)

    monkeypatch.setattr(cache, "encode_rows", counted)
    monkeypatch.setattr(cache, "BATCH_BYTES", 2000)
    assert tokenize(make_prepared(rows, form="text"), tokenizer=byte_tokenizer).manifest.splits["train"].pairs == 8
    assert calls == [2, 2, 2, 2]
