"""From a prepared folder to its token cache: what is in it, when it is made anew, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from dpo_data.errors import InputError, PreparedError, RowError, UsageError
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import TokenCache, find_tokens, list_tokens, open_tokens, tokenize
from dpo_data.tokens.encoder import tokenizer_hash

EOS = 256


def pair(prompt: str, chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


#: Nothing is cut at 24 tokens, EOS included.
ROWS = [
    pair("What is this?", " a bow", " no"),
    pair("Hello there", " hi, what?", " go"),
    pair("How are you?", " fine", " bad day"),
]
MESSAGES = [
    {
        "prompt": [{"role": "user", "content": "hello"}],
        "chosen": [{"role": "assistant", "content": "hi there"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
]


def rows_of(cache: TokenCache, split: str = "train") -> list[tuple[list[int], list[int], list[int]]]:
    data = cache.dataset()[split]
    return list(zip(data["prompt_ids"], data["chosen_ids"], data["rejected_ids"], strict=True))


def decoded(cache: TokenCache, tokenizer: PreTrainedTokenizerFast, split: str = "train") -> list[tuple[str, ...]]:
    return [tuple(tokenizer.decode(ids) for ids in row) for row in rows_of(cache, split)]


def dropped(cache: TokenCache) -> list[dict[str, object]]:
    return [json.loads(line) for line in (cache.path / "dropped.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the one that may differ from run to run."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.name != "provenance.json"}


def times(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


# What is in a cache.


def test_responses_end_with_eos_and_prompts_stand_apart(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer)
    assert decoded(cache, byte_tokenizer) == [
        ("What is this?", " a bow</s>", " no</s>"),
        ("Hello there", " hi, what?</s>", " go</s>"),
        ("How are you?", " fine</s>", " bad day</s>"),
    ]
    assert all(row[1][-1] == row[2][-1] == EOS for row in rows_of(cache))


def test_datasets_loads_a_cache_with_lists_of_int32_and_what_the_text_carries(make_prepared, byte_tokenizer):
    rows = [row | {"chosen_score": 0.5, "rejected_score": None} for row in ROWS]
    prepared = make_prepared(rows)
    data = datasets.load_from_disk(str(tokenize(prepared, tokenizer=byte_tokenizer).path))
    ids = datasets.List(datasets.Value("int32"))
    assert dict(data["train"].features) == {
        "prompt_ids": ids,
        "chosen_ids": ids,
        "rejected_ids": ids,
        "chosen_score": datasets.Value("float64"),
        "rejected_score": datasets.Value("float64"),
        "margin": datasets.Value("float64"),
        "origin": datasets.Value("string"),
        "id": datasets.Value("string"),
        "prompt_key": datasets.Value("string"),
    }
    text = datasets.load_from_disk(str(prepared))
    for column in ("chosen_score", "rejected_score", "margin", "origin", "id", "prompt_key"):
        assert data["train"][column][:] == text["train"][column][:], column


def test_each_split_gets_its_own_ids(tmp_path, write_rows, byte_tokenizer):
    from dpo_data import convert

    raw = [write_rows(tmp_path / f"{split}.jsonl", [row]) for split, row in zip(("train", "test"), ROWS, strict=False)]
    convert("pairs", raw, output=tmp_path / "prepared")
    cache = tokenize(tmp_path / "prepared", tokenizer=byte_tokenizer)
    assert decoded(cache, byte_tokenizer, "train") == [("What is this?", " a bow</s>", " no</s>")]
    assert decoded(cache, byte_tokenizer, "test") == [("Hello there", " hi, what?</s>", " go</s>")]
    assert {name: counts.pairs for name, counts in cache.manifest.splits.items()} == {"train": 1, "test": 1}


def test_keep_end_keeps_the_last_words_of_a_prompt_that_is_cut(make_prepared, byte_tokenizer):
    # 16 tokens: the longer response takes 7, and leaves 9 for the prompt of 13.
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=16)
    assert decoded(cache, byte_tokenizer) == [(" is this?", " a bow</s>", " no</s>")]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.prompt_tokens_cut) == (1, 4)
    assert (counts.responses_cut, counts.response_tokens_cut, counts.longest_pair) == (0, 0, 16)


def test_keep_start_keeps_the_first_words_of_a_prompt_that_is_cut(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=16, truncation_mode="keep_start")
    assert decoded(cache, byte_tokenizer) == [("What is t", " a bow</s>", " no</s>")]


def test_a_cut_response_has_no_eos_and_the_other_keeps_its_own(make_prepared, byte_tokenizer):
    # 8 tokens, 3 of them for the prompt: the chosen response keeps 5 of 7, the rejected all of its 4.
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=8, max_prompt_length=3)
    assert decoded(cache, byte_tokenizer) == [("is?", " a bo", " no</s>")]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.prompt_tokens_cut) == (1, 10)
    assert (counts.responses_cut, counts.response_tokens_cut) == (1, 2)
    assert (counts.prompt_tokens, counts.response_tokens, counts.longest_pair) == (3, 9, 8)


def test_max_length_none_cuts_nothing(make_prepared, byte_tokenizer):
    rows = [pair("long " * 400, " yes " * 400, " no")]
    cache = tokenize(make_prepared(rows), tokenizer=byte_tokenizer, max_length=None)
    assert decoded(cache, byte_tokenizer) == [("long " * 400, " yes " * 400 + "</s>", " no</s>")]


def test_conversations_go_through_the_chat_template(make_prepared, chat_tokenizer):
    cache = tokenize(make_prepared(MESSAGES, form="conversational"), tokenizer=chat_tokenizer)
    assert decoded(cache, chat_tokenizer) == [
        ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", "hi there<|im_end|>", "no<|im_end|>")
    ]


# What is dropped, and that counts add up.


def test_pairs_that_cutting_makes_equal_are_dropped_with_a_reason(make_prepared, byte_tokenizer):
    prepared = make_prepared([pair("Hi", "same start, good end", "same start, bad end"), ROWS[0]])
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10)
    assert [row["origin"] for row in cache.dataset()["train"]] == ["raw/pairs.jsonl:2"]
    identity = open_prepared(prepared).dataset()["train"][0]["id"]
    [lost] = dropped(cache)
    assert lost == {
        "split": "train",
        "shard": cache.manifest.shards["train"][0].key,
        "origin": "raw/pairs.jsonl:1",
        "id": identity,
        "reason": "equal_responses",
        "prompt_tokens": 2,
        "chosen_tokens": 21,
        "rejected_tokens": 20,
    }
    counts = cache.manifest.splits["train"]
    assert (counts.pairs_read, counts.pairs, counts.dropped) == (2, 1, {"equal_responses": 1})


def test_on_overlong_drop_leaves_out_what_truncate_would_cut(make_prepared, byte_tokenizer):
    # 20, 22 and 21 tokens with the longer response.
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=20, on_overlong="drop")
    assert decoded(cache, byte_tokenizer) == [("What is this?", " a bow</s>", " no</s>")]
    assert [(row["origin"], row["reason"]) for row in dropped(cache)] == [
        ("raw/pairs.jsonl:2", "too_long"),
        ("raw/pairs.jsonl:3", "too_long"),
    ]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.responses_cut, counts.longest_pair) == (0, 0, 20)


def test_on_overlong_fail_names_the_first_pair_and_leaves_nothing(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    with pytest.raises(RowError) as failure:
        tokenize(prepared, tokenizer=byte_tokenizer, max_length=20, on_overlong="fail")
    assert str(failure.value) == (
        "raw/pairs.jsonl:2: 22 tokens, over --max-length 20. [too_long]\n"
        "  Raise --max-length, or cut or leave out such pairs: --on-overlong truncate|drop."
    )
    assert list(prepared.glob("tokens/*")) == []


def test_on_overlong_fail_takes_pairs_of_exactly_max_length(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=22, on_overlong="fail")
    assert cache.manifest.splits["train"].pairs == 3


@pytest.mark.parametrize("on_overlong", ["truncate", "drop"])
@pytest.mark.parametrize("max_length", [2, 5, 12, 21, None])
def test_counts_add_up(make_prepared, byte_tokenizer, max_length, on_overlong):
    rows = [*ROWS, pair("Hi", "same start, good end", "same start, bad end")]
    prepared = make_prepared(rows)
    cache = tokenize(prepared, tokenizer=byte_tokenizer, max_length=max_length, on_overlong=on_overlong)
    counts = cache.manifest.splits["train"]
    ids = rows_of(cache)
    assert counts.pairs_read == len(rows) == counts.pairs + sum(counts.dropped.values())
    assert counts.pairs == len(ids)
    assert sum(counts.dropped.values()) == len(dropped(cache))
    assert counts.prompt_tokens == sum(len(row[0]) for row in ids)
    assert counts.response_tokens == sum(len(row[1]) + len(row[2]) for row in ids)
    assert counts.longest_pair == max((len(row[0]) + max(len(row[1]), len(row[2])) for row in ids), default=0)
    assert max_length is None or counts.longest_pair <= max_length


def test_a_split_of_which_every_pair_is_dropped_is_an_empty_cache(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=5, on_overlong="drop")
    assert rows_of(cache) == []
    assert cache.manifest.splits["train"].dropped == {"too_long": 3}


def test_pairs_that_the_template_refuses_are_dropped_with_its_code(make_prepared, make_tokenizer):
    strict = (
        "{% for m in messages %}{% if not loop.first and m.role == loop.previtem.role %}"
        "{{ raise_exception('twice') }}{% endif %}{{ m.content }}</s>{% endfor %}"
    )
    twice = MESSAGES[0] | {"prompt": MESSAGES[0]["prompt"] * 2}
    prepared = make_prepared([*MESSAGES, twice], form="conversational")
    cache = tokenize(prepared, tokenizer=make_tokenizer(template=strict))
    assert [row["origin"] for row in cache.dataset()["train"]] == ["raw/pairs.jsonl:1"]
    assert [(row["origin"], row["reason"]) for row in dropped(cache)] == [("raw/pairs.jsonl:2", "template_refused")]


@pytest.mark.parametrize("truncation_mode", ["keep_end", "keep_start"])
def test_a_prompt_without_any_token_is_dropped_as_empty(make_prepared, truncation_mode):
    letters = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate("ab")}, merges=[]))
    letters.normalizer = normalizers.Lowercase()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="</s>")
    prepared = make_prepared([pair("ab", "a", "b"), pair("???", "aaaaaaaaaa", "b")])
    cache = tokenize(prepared, tokenizer=tokenizer, max_length=4, truncation_mode=truncation_mode)
    assert rows_of(cache) == [([0, 1], [0, 2], [1, 2])]
    assert [(row["origin"], row["reason"]) for row in dropped(cache)] == [("raw/pairs.jsonl:2", "empty_prompt")]


def test_seams_are_counted(make_prepared, toy_tokenizer):
    # "hello" is one token, and " hello" another: the first pair has one seam, the second two.
    prepared = make_prepared([pair("say hel", "lo", " what"), pair("say: ", "hello", "there")])
    assert toy_tokenizer.tokenize("hello hello") == ["hello", "Ġhello"]
    assert tokenize(prepared, tokenizer=toy_tokenizer).manifest.splits["train"].seams == 3


def test_refused_pairs_do_not_disturb_the_cutting_of_others(make_prepared, make_tokenizer):
    """A refused pair has no ids at all; it stands last, where reading its first id would be past the end."""
    strict = "{% for m in messages %}{{ raise_exception('no') if m.content == 'x' }}{{ m.content }}</s>{% endfor %}"
    refused = MESSAGES[0] | {"prompt": [{"role": "user", "content": "x"}]}
    prepared = make_prepared([*MESSAGES, refused], form="conversational")
    tokenizer = make_tokenizer(template=strict)
    assert tokenizer.bos_token_id is not None
    cache = tokenize(prepared, tokenizer=tokenizer, max_length=4, max_prompt_length=1)
    assert cache.manifest.splits["train"].prompts_cut == 1
    assert [row["reason"] for row in dropped(cache)] == ["template_refused"]


# Hits and keys.


def test_a_second_call_is_a_hit_and_rewrites_nothing(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    first = tokenize(prepared, tokenizer=byte_tokenizer)
    before = times(prepared)
    told: list[int] = []
    second = tokenize(prepared, tokenizer=byte_tokenizer, progress=lambda fraction, rows: told.append(rows))
    assert (first.hit, second.hit) == (False, True)
    assert second == first
    assert told == []
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


def test_every_option_has_a_part_in_the_key(make_prepared, byte_tokenizer):
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


def test_rows_have_a_part_in_the_key(make_prepared, byte_tokenizer, tmp_path):
    cached = [
        tokenize(make_prepared(rows, name=name), tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
        for name, rows in (("one", ROWS), ("fewer", ROWS[:2]), ("swapped", ROWS[::-1]), ("again", ROWS))
    ]
    assert [cache.hit for cache in cached] == [False, False, False, True]
    assert cached[0] == cached[3]


def test_tokenizer_and_templates_have_a_part_in_the_key(make_prepared, make_tokenizer):
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


def test_the_key_of_a_frozen_toy_is_frozen(make_prepared, byte_tokenizer):
    """A change here makes every cache in the world a miss: raise TOKENS_VERSION, and say it in the CHANGELOG.

    They also rest on how tokenizers writes tokenizer.json and how Arrow writes its stream, in the pinned versions.
    """
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=20, max_prompt_length=5)
    assert tokenizer_hash(byte_tokenizer) == "0c8b4b5603357c34077ba1d79b904a11"
    assert cache.manifest.key == cache.path.name == "1a5f926a2ac6fd50"


def test_the_same_bytes_come_out_of_every_working_directory(make_prepared, byte_tokenizer, tmp_path, monkeypatch):
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
    """Written in Python, and in the hands of one thread at a time."""

    held = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.held += 1
        assert self.held == 1
        time.sleep(0.02)
        encoded = super().__call__(*args, **options)
        self.held -= 1
        return encoded


def test_a_tokenizer_written_in_python_meets_one_thread_at_a_time(make_prepared, monkeypatch):
    monkeypatch.setattr("dpo_data.tokens.cache.BATCH_ROWS", 1)
    assert tokenize(make_prepared(ROWS), tokenizer=Busy()).manifest.splits["train"].pairs == len(ROWS)


def test_batches_do_not_show_in_the_ids(make_prepared, byte_tokenizer, tmp_path, monkeypatch):
    prepared = make_prepared(ROWS)
    whole = tokenize(prepared, tokenizer=byte_tokenizer)
    monkeypatch.setattr("dpo_data.tokens.cache.BATCH_ROWS", 1)
    single = tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
    assert rows_of(single) == rows_of(whole)
    assert single.manifest.splits == whole.manifest.splits


def test_list_tokens_names_the_caches_of_the_text_as_it_is_now(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS[:2])
    old = tokenize(prepared, tokenizer=byte_tokenizer)
    assert list_tokens(open_prepared(prepared)) == [old]
    make_prepared(ROWS, overwrite=True)
    assert list_tokens(open_prepared(prepared)) == []
    new = [tokenize(prepared, tokenizer=byte_tokenizer, max_length=most) for most in (20, 30)]
    assert list_tokens(open_prepared(prepared)) == sorted(new, key=lambda cache: cache.manifest.key)
    assert open_tokens(old.path) == old


# Shards.


@pytest.fixture
def _two_rows_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("prepared.writer", "prepared.reader"):
        monkeypatch.setattr(f"dpo_data.{module}.SHARD_ROWS", 2)


@pytest.fixture
def progress() -> Iterator[Callable[[float | None, int], None]]:
    def note(fraction: float | None, rows: int) -> None:
        note.told.append((fraction, rows))

    note.told = []
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
    assert progress.told == [(1.0, 5)]  # one batch: the shard of the fifth row
    assert [shard.counts.pairs_read for shard in new.manifest.shards["train"]] == [2, 2, 1]
    assert [(row["origin"], row["reason"]) for row in dropped(new)] == [("raw/pairs.jsonl:2", "equal_responses")]
    assert new.manifest.splits["train"].dropped == {"equal_responses": 1}
    assert contents(old.path) == before
    fresh = tokenize(prepared, tokenizer=byte_tokenizer, max_length=10, cache_dir=tmp_path / "cache")
    assert contents(new.path) == contents(fresh.path)


@pytest.mark.usefixtures("_two_rows_a_shard")
def test_a_changed_row_costs_its_own_shard_alone(make_prepared, byte_tokenizer, progress):
    prepared = make_prepared(MORE_ROWS)
    tokenize(prepared, tokenizer=byte_tokenizer)
    make_prepared([*MORE_ROWS[:2], pair("Now", " else", " not"), *MORE_ROWS[3:]], overwrite=True)
    new = tokenize(prepared, tokenizer=byte_tokenizer, progress=progress)
    assert progress.told == [(0.8, 4)]
    assert decoded(new, byte_tokenizer)[2] == ("Now", " else</s>", " not</s>")


@pytest.mark.usefixtures("_two_rows_a_shard")
def test_shards_of_other_options_are_not_reused(make_prepared, byte_tokenizer, progress):
    prepared = make_prepared(MORE_ROWS)
    tokenize(prepared, tokenizer=byte_tokenizer, max_length=100)
    tokenize(prepared, tokenizer=byte_tokenizer, max_length=101, progress=progress)
    assert [rows for _, rows in progress.told] == [2, 4, 5]


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


def flip_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# Where caches go, and what is left by what goes wrong.


def test_cache_dir_leaves_a_read_only_prepared_folder_as_it_is(make_prepared, byte_tokenizer, tmp_path):
    prepared = make_prepared(ROWS)
    for path in [prepared, *prepared.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    before = times(prepared)
    cache = tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache")
    assert cache.path.parent == tmp_path / "cache" / "tokens"
    assert list_tokens(open_prepared(prepared), tmp_path / "cache") == [cache]
    assert list_tokens(open_prepared(prepared)) == []
    assert tokenize(prepared, tokenizer=byte_tokenizer, cache_dir=tmp_path / "cache").hit
    assert times(prepared) == before


KILLED = """
import os, signal, sys
import dpo_data.tokens.cache
from dpo_data.tokens.cache import tokenize
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast  # AutoTokenizer loads for seconds more

moment, prepared, tokenizer = sys.argv[1:]
dpo_data.tokens.cache.BATCH_ROWS = 1

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "publishing":
    replace = os.replace
    os.replace = lambda old, new: kill() if str(new).endswith("manifest.json") else replace(old, new)
tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer)
tokenize(prepared, tokenizer=tokenizer, progress=kill if moment == "tokenizing" else lambda fraction, rows: None)
"""


@pytest.mark.parametrize("moment", ["tokenizing", "publishing"])
def test_a_killed_run_leaves_no_cache_and_the_next_completes_it(make_prepared, tokenizer_folder, tmp_path, moment):
    prepared = make_prepared(ROWS)
    command = [sys.executable, "-c", KILLED, moment, str(prepared), str(tokenizer_folder)]
    assert subprocess.run(command, check=False).returncode == -9
    [left] = prepared.glob("tokens/*")
    assert any((left / ".partial").iterdir())
    assert (left / "train").is_dir() == (moment == "publishing")
    assert list_tokens(open_prepared(prepared)) == []
    assert find_tokens(prepared, tokenizer=tokenizer_folder) is None
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        open_tokens(left)
    completed = tokenize(prepared, tokenizer=tokenizer_folder)
    assert (completed.path, completed.hit) == (left, False)
    undisturbed = tokenize(prepared, tokenizer=tokenizer_folder, cache_dir=tmp_path / "cache")
    assert contents(completed.path) == contents(undisturbed.path)


def test_an_interrupted_run_leaves_nothing(make_prepared, byte_tokenizer):
    def stop(fraction: float | None, rows: int) -> None:
        raise KeyboardInterrupt

    prepared = make_prepared(ROWS)
    from dpo_data.errors import Interrupted

    with pytest.raises(Interrupted, match="stopped; nothing of this run is left there"):
        tokenize(prepared, tokenizer=byte_tokenizer, progress=stop)
    assert list(prepared.glob("tokens/*")) == []


def test_a_cache_with_a_damaged_manifest_is_made_again(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    cache = tokenize(prepared, tokenizer=byte_tokenizer)
    whole = contents(cache.path)
    manifest = cache.path / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    assert find_tokens(prepared, tokenizer=byte_tokenizer) is None
    again = tokenize(prepared, tokenizer=byte_tokenizer)
    assert (again, again.hit) == (cache, False)
    assert contents(again.path) == whole


# Refusals.


def test_a_text_shard_with_a_flipped_byte_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    shard = prepared / "train" / "data-00000-of-00001.arrow"
    flip_bit(shard)
    with pytest.raises(PreparedError) as refusal:
        tokenize(prepared, tokenizer=byte_tokenizer)
    assert str(refusal.value) == (
        f"{shard}: has other bytes than when it was written.\n"
        f"  Find out more: dpo-data validate {prepared}; then convert again with --overwrite."
    )
    assert list(prepared.glob("tokens/*")) == []


def test_an_unfinished_folder_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    (prepared / "manifest.json").unlink()
    (prepared / ".partial").mkdir()
    with pytest.raises(PreparedError, match=r"is unfinished: a run was stopped\.\n  Run it again: dpo-data convert"):
        tokenize(prepared, tokenizer=byte_tokenizer)


def test_a_folder_without_manifest_is_refused(tmp_path, byte_tokenizer):
    with pytest.raises(PreparedError, match=r"is no folder of dpo-data prepared: it has no manifest\.json"):
        tokenize(tmp_path, tokenizer=byte_tokenizer)


def test_a_rejected_folder_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared([*ROWS, pair("Hi", "", "no")])
    with pytest.raises(PreparedError) as refusal:
        tokenize(prepared, tokenizer=byte_tokenizer)
    assert str(refusal.value) == (
        f"{prepared}: was rejected: 1 of 4 rows are in quarantine, more than --max-invalid 0.05 allows.\n"
        f"  See {prepared}/quarantine for the reasons; mend the rows or raise --max-invalid, and convert again."
    )


def test_a_tokenizer_without_eos_is_refused(make_prepared, make_tokenizer):
    prepared = make_prepared(ROWS)
    with pytest.raises(UsageError, match="the tokenizer has no end-of-sequence token"):
        tokenize(prepared, tokenizer=make_tokenizer(eos_token=None))
    assert not (prepared / "tokens").exists()


def test_conversations_without_a_chat_template_are_refused(make_prepared, tokenizer_folder):
    prepared = make_prepared(MESSAGES, form="conversational")
    with pytest.raises(UsageError) as refusal:
        tokenize(prepared, tokenizer=tokenizer_folder)
    assert str(refusal.value) == (
        f"{tokenizer_folder}: the tokenizer has no chat template, and {prepared} holds conversations.\n"
        "  Give one: --chat-template FILE; or convert with --form text."
    )


def test_a_chat_template_for_text_is_refused(make_prepared, byte_tokenizer):
    with pytest.raises(UsageError, match="--chat-template is for conversational data, and this is text"):
        tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, chat_template="{{ messages }}")


def test_a_tokenizer_folder_that_is_not_there_is_named(make_prepared, tmp_path):
    missing = tmp_path / "no" / "such" / "tokenizer"
    with pytest.raises(InputError) as refusal:
        tokenize(make_prepared(ROWS), tokenizer=missing)
    assert str(refusal.value) == (
        f"{missing}: there is no such folder.\n  Name a folder with tokenizer.json, or a model on the hub."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 8, "max_prompt_length": 8}, "leaves no token"),
        ({"max_length": 1}, "must be at least 2"),
        ({"truncation_mode": "keep_middle"}, "--truncation-mode keep_middle: choose from keep_end, keep_start"),
        ({"on_overlong": "skip"}, "--on-overlong skip: choose from truncate, drop, fail"),
    ],
)
def test_bad_options_are_refused(make_prepared, byte_tokenizer, options, message):
    with pytest.raises(UsageError, match=message):
        tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, **options)


def test_a_cache_of_another_format_version_is_neither_used_nor_touched(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS[:2])
    old = tokenize(prepared, tokenizer=byte_tokenizer)
    foreign = prepared / "tokens" / "foreign"
    shutil.copytree(old.path, foreign)
    manifest = foreign / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    before = times(foreign)
    assert list_tokens(open_prepared(prepared)) == [old]
    assert not tokenize(prepared, tokenizer=byte_tokenizer, max_length=20).hit
    assert times(foreign) == before
    with pytest.raises(PreparedError, match="has format version 2; this program reads version 1"):
        open_tokens(foreign)
    assert os.listdir(foreign)
