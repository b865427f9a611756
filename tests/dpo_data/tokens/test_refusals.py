"""Folders, tokenizers and options that tokenize refuses."""

import os
import shutil

import pytest
from token_caches import MESSAGES, ROWS, flip_bit, pair, times

from dpo_data.errors import InputError, PreparedError, UsageError
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import list_tokens, open_tokens, tokenize


def test_a_text_shard_with_a_flipped_byte_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    shard = prepared / "train" / "data-00000-of-00001.arrow"
    flip_bit(shard)
    with pytest.raises(PreparedError) as refusal:
        tokenize(prepared, tokenizer=byte_tokenizer)
    assert str(refusal.value) == (
        f"{shard}: has other bytes than when it was written (SHA-256 differs).\n"
        f"  Find out more: dpo-data validate {prepared}; then convert again with overwrite=True."
    )
    assert list(prepared.glob("tokens/*")) == []


def test_an_unfinished_folder_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared(ROWS)
    (prepared / "manifest.json").unlink()
    (prepared / ".partial").mkdir()
    with pytest.raises(PreparedError, match=r"is unfinished: a run was stopped\.\n  Run it again: dpo-data convert"):
        tokenize(prepared, tokenizer=byte_tokenizer)


def test_a_folder_without_manifest_is_refused(tmp_path, byte_tokenizer):
    with pytest.raises(PreparedError, match=r"is not a folder of dpo-data prepared: it has no manifest\.json"):
        tokenize(tmp_path, tokenizer=byte_tokenizer)


def test_a_rejected_folder_is_refused(make_prepared, byte_tokenizer):
    prepared = make_prepared([*ROWS, pair("Hi", "", "no")])
    with pytest.raises(PreparedError) as refusal:
        tokenize(prepared, tokenizer=byte_tokenizer)
    assert str(refusal.value) == (
        f"{prepared}: was rejected: 1 of 4 rows are in quarantine, more than max_invalid=0.05 allows.\n"
        f"  See {prepared}/quarantine for the reasons; fix the rows, or raise max_invalid=, and convert again."
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
        "  Give one with chat_template=, or convert with form=text."
    )


def test_a_chat_template_for_text_is_refused(make_prepared, byte_tokenizer):
    with pytest.raises(UsageError, match="chat_template= is for conversational data, and this is text"):
        tokenize(make_prepared(ROWS), tokenizer=byte_tokenizer, chat_template="{{ messages }}")


def test_a_tokenizer_folder_that_is_not_there_is_named(make_prepared, tmp_path):
    missing = tmp_path / "no" / "such" / "tokenizer"
    with pytest.raises(InputError) as refusal:
        tokenize(make_prepared(ROWS), tokenizer=missing)
    assert str(refusal.value) == (
        f"{missing}: there is no such folder.\n  Name a folder with the tokenizer, or a model on the Hub."
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 8, "max_prompt_length": 8}, "leaves no token"),
        ({"max_length": 1}, "must be at least 2"),
        ({"truncation_mode": "keep_middle"}, "truncation_mode=keep_middle: choose from keep_end, keep_start"),
        ({"on_overlong": "skip"}, "on_overlong=skip: choose from truncate, drop, fail"),
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
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 3'))
    before = times(foreign)
    assert list_tokens(open_prepared(prepared)) == [old]
    assert not tokenize(prepared, tokenizer=byte_tokenizer, max_length=20).hit
    assert times(foreign) == before
    with pytest.raises(PreparedError, match="has format version 3; this program reads version 2"):
        open_tokens(foreign)
    assert os.listdir(foreign)
