"""Content of a token cache: ids, dropped pairs and counts."""

import datasets
import pytest
from token_caches import EOS, MESSAGES, ROWS, decoded, dropped, pair, rows_of
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from dpo_data import convert
from dpo_data.errors import RowError
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import tokenize

# Ids.


def test_responses_end_with_eos_and_prompts_are_tokenized_separately(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer)
    assert decoded(cache, byte_tokenizer) == [
        ("What is this?", " a bow</s>", " no</s>"),
        ("Hello there", " hi, what?</s>", " go</s>"),
        ("How are you?", " fine</s>", " bad day</s>"),
    ]
    assert all(row[1][-1] == row[2][-1] == EOS for row in rows_of(cache))


def test_datasets_loads_ids_as_lists_of_int32_with_scores_origins_and_keys(make_prepared, byte_tokenizer):
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
    raw = [write_rows(tmp_path / f"{split}.jsonl", [row]) for split, row in zip(("train", "test"), ROWS, strict=False)]
    convert("pairs", raw, output=tmp_path / "prepared", form="text")
    cache = tokenize(tmp_path / "prepared", tokenizer=byte_tokenizer)
    assert decoded(cache, byte_tokenizer, "train") == [("What is this?", " a bow</s>", " no</s>")]
    assert decoded(cache, byte_tokenizer, "test") == [("Hello there", " hi, what?</s>", " go</s>")]
    assert {name: counts.pairs for name, counts in cache.manifest.splits.items()} == {"train": 1, "test": 1}


def test_keep_end_keeps_the_last_words_of_a_truncated_prompt(make_prepared, byte_tokenizer):
    # 16 tokens: the longer response takes 7, and leaves 9 for the prompt of 13.
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=16)
    assert decoded(cache, byte_tokenizer) == [(" is this?", " a bow</s>", " no</s>")]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.prompt_tokens_cut) == (1, 4)
    assert (counts.responses_cut, counts.response_tokens_cut, counts.longest_pair) == (0, 0, 16)


def test_keep_start_keeps_the_first_words_of_a_truncated_prompt(make_prepared, byte_tokenizer):
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=16, truncation_mode="keep_start")
    assert decoded(cache, byte_tokenizer) == [("What is t", " a bow</s>", " no</s>")]


def test_a_truncated_response_has_no_eos_and_the_other_keeps_its_own(make_prepared, byte_tokenizer):
    # 8 tokens, 3 of them for the prompt: the chosen response keeps 5 of 7, the rejected all of its 4.
    cache = tokenize(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_length=8, max_prompt_length=3)
    assert decoded(cache, byte_tokenizer) == [("is?", " a bo", " no</s>")]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.prompt_tokens_cut) == (1, 10)
    assert (counts.responses_cut, counts.response_tokens_cut) == (1, 2)
    assert (counts.prompt_tokens, counts.response_tokens, counts.longest_pair) == (3, 9, 8)


def test_max_length_none_disables_truncation(make_prepared, byte_tokenizer):
    rows = [pair("long " * 400, " yes " * 400, " no")]
    cache = tokenize(make_prepared(rows), tokenizer=byte_tokenizer, max_length=None)
    assert decoded(cache, byte_tokenizer) == [("long " * 400, " yes " * 400 + "</s>", " no</s>")]


def test_conversations_are_rendered_with_the_chat_template(make_prepared, chat_tokenizer):
    cache = tokenize(make_prepared(MESSAGES, form="conversational"), tokenizer=chat_tokenizer)
    assert decoded(cache, chat_tokenizer) == [
        ("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n", "hi there<|im_end|>", "no<|im_end|>")
    ]


# Dropped pairs and counts.


def test_pairs_whose_responses_are_equal_after_truncation_are_dropped_with_a_reason(make_prepared, byte_tokenizer):
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


def test_on_overlong_drop_drops_the_pairs_that_truncate_would_shorten(make_prepared, byte_tokenizer):
    # 20, 22 and 21 tokens with the longer response.
    cache = tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, max_length=20, on_overlong="drop")
    assert decoded(cache, byte_tokenizer) == [("What is this?", " a bow</s>", " no</s>")]
    assert [(row["origin"], row["reason"]) for row in dropped(cache)] == [
        ("raw/pairs.jsonl:2", "too_long"),
        ("raw/pairs.jsonl:3", "too_long"),
    ]
    counts = cache.manifest.splits["train"]
    assert (counts.prompts_cut, counts.responses_cut, counts.longest_pair) == (0, 0, 20)


def test_on_overlong_fail_names_the_first_pair_and_writes_nothing(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    with pytest.raises(RowError) as failure:
        tokenize(prepared, tokenizer=byte_tokenizer, max_length=20, on_overlong="fail")
    assert str(failure.value) == (
        "raw/pairs.jsonl:2: 22 tokens, over max_length=20. [too_long]\n"
        "  Raise max_length=, or truncate or drop such pairs: on_overlong=truncate|drop."
    )
    assert list(prepared.glob("tokens/*")) == []


def test_on_overlong_fail_accepts_pairs_of_exactly_max_length(make_prepared, byte_tokenizer):
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


def test_a_split_whose_pairs_are_all_dropped_has_no_rows(make_prepared, byte_tokenizer):
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
    cache = tokenize(prepared, tokenizer=make_tokenizer(template=strict), max_invalid=0.5)
    assert [row["origin"] for row in cache.dataset()["train"]] == ["raw/pairs.jsonl:1"]
    assert [(row["origin"], row["reason"]) for row in dropped(cache)] == [("raw/pairs.jsonl:2", "template_refused")]


@pytest.mark.parametrize("truncation_mode", ["keep_end", "keep_start"])
def test_a_pair_whose_prompt_has_no_tokens_is_dropped(make_prepared, truncation_mode):
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


def test_refused_pairs_do_not_affect_the_truncation_of_others(make_prepared, make_tokenizer):
    """A refused pair has no ids; it is the last one, where reading its first id would be past the end."""
    strict = "{% for m in messages %}{{ raise_exception('no') if m.content == 'x' }}{{ m.content }}</s>{% endfor %}"
    refused = MESSAGES[0] | {"prompt": [{"role": "user", "content": "x"}]}
    prepared = make_prepared([*MESSAGES, refused], form="conversational")
    tokenizer = make_tokenizer(template=strict)
    assert tokenizer.bos_token_id is not None
    cache = tokenize(prepared, tokenizer=tokenizer, max_length=4, max_prompt_length=1, max_invalid=0.5)
    assert cache.manifest.splits["train"].prompts_cut == 1
    assert [row["reason"] for row in dropped(cache)] == ["template_refused"]
