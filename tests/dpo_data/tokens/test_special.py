"""Special tokens that end a turn, and tokenizers that put a space before a text."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from dpo_data.tokens.special import EndTokens, without_prefix_space


def test_white_space_behind_a_special_token_is_dropped_and_other_white_space_stays(make_tokenizer):
    ends = EndTokens(make_tokenizer(additional_special_tokens=["<|im_end|>"]))
    texts = ["a<|im_end|> \n", "a</s>\n", "a \n", "a<|other|>\n", " \n", ""]
    assert [ends.strip_after(text) for text in texts] == ["a<|im_end|>", "a</s>", "a \n", "a<|other|>\n", " \n", ""]


def test_every_token_that_is_special_may_end_a_turn_whether_or_not_it_has_a_role(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.add_special_tokens([AddedToken("<|call|>")])
    assert "<|call|>" not in tokenizer.all_special_tokens
    assert EndTokens(tokenizer).are_at_end_of("a<|call|>")


def test_an_added_token_that_is_not_special_ends_no_turn(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<|word|>"])
    assert not EndTokens(tokenizer).are_at_end_of("a<|word|>")


def test_tokens_that_pad_or_begin_a_text_end_a_turn_only_where_the_template_writes_them(make_tokenizer):
    tokenizer = make_tokenizer(bos_token="<s>", pad_token="<pad>")
    assert not EndTokens(tokenizer).are_at_end_of("a<pad>")
    assert not EndTokens(tokenizer).are_at_end_of("a<s>")
    assert EndTokens(tokenizer, "{{ content }}<pad>").are_at_end_of("a<pad>")
    # A padding token that is EOS too ends a turn in any case.
    assert EndTokens(make_tokenizer(pad_token="</s>")).are_at_end_of("a</s>")


def tokenizer_with(normalizer=None, pre_tokenizer=None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab={"▁": 0, "a": 1, "▁a": 2, " ": 3}, merges=[("▁", "a")], unk_token=None))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


PREPEND = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
METASPACE = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace(prepend_scheme="first")])


@pytest.mark.parametrize(
    "tokenizer",
    [
        tokenizer_with(normalizer=PREPEND),
        tokenizer_with(normalizer=normalizers.Prepend("▁")),
        tokenizer_with(pre_tokenizer=METASPACE),
        tokenizer_with(pre_tokenizer=pre_tokenizers.Metaspace(prepend_scheme="always")),
    ],
    ids=["prepend and replace", "prepend", "metaspace in a sequence", "metaspace"],
)
def test_a_space_before_a_text_is_taken_away(tokenizer):
    assert tokenizer.encode("a").tokens == ["▁a"]
    assert without_prefix_space(tokenizer).encode("a").tokens == ["a"]
    assert tokenizer.encode("a").tokens == ["▁a"]


def test_a_space_in_the_text_stays():
    tokenizer = tokenizer_with(normalizer=PREPEND)
    assert without_prefix_space(tokenizer).encode(" a").tokens == ["▁a"]


@pytest.mark.parametrize(
    "pre_tokenizer",
    [
        None,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.Metaspace(prepend_scheme="never"),
        pre_tokenizers.BertPreTokenizer(),
    ],
    ids=["none", "bytes", "metaspace", "words"],
)
def test_a_tokenizer_that_puts_no_space_is_left_alone(pre_tokenizer):
    assert without_prefix_space(tokenizer_with(pre_tokenizer=pre_tokenizer)) is None
