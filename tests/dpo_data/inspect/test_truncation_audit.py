"""The truncation audit: numbers calculated by hand, and agreement with what `tokenize` truncates."""

import random

import pytest

from dpo_data import tokenize
from dpo_data.errors import UsageError
from dpo_data.inspect.statistics.collector import compute_statistics
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.encoder import Encoder


@pytest.fixture
def audit(make_prepared, byte_tokenizer):
    def of(rows, lengths, max_prompt_length=None, **options):
        folder = open_prepared(make_prepared(rows, **options))
        statistics = compute_statistics(
            folder, encoder=Encoder(byte_tokenizer), max_lengths=lengths, max_prompt_length=max_prompt_length
        )
        return {(entry.max_length, entry.truncation_mode): entry for entry in statistics.truncation}

    return of


ROWS = [
    {"prompt": "p" * 4, "chosen": "c" * 3, "rejected": "r" * 5},  # 4 + 6 tokens: responses end with EOS
    {"prompt": "p" * 10, "chosen": "same" + "x", "rejected": "same" + "y" * 7},  # 10 + 12
]


def test_truncation_is_counted_token_by_token(audit):
    """Tokens are bytes, and a response has one more, its end-of-sequence token.

    At 16 the first pair fits (10). The second has p 10, r 12: the prompt keeps max(16 - 12, min(10, 4), 1) = 4 tokens,
    6 are lost; 12 remain for the responses, and both fit.
    At 8 the first has p 4, r 6: the prompt keeps max(2, min(4, 2), 1) = 2, 2 are lost, 6 remain, and both responses (4
    and 6) fit. The second keeps max(-4, 2, 1) = 2 of its prompt, 8 are lost, 6 remain: chosen (6) fits, rejected (12)
    loses 6 and its end.
    """
    found = audit(ROWS, [8, 16])
    at_16, at_8 = found[16, "keep_end"], found[8, "keep_end"]
    assert (at_16.pairs, at_16.pairs_cut, at_16.prompt_tokens_lost, at_16.response_tokens_lost) == (2, 1, 6, 0)
    assert (at_16.chosen_losing_end, at_16.rejected_losing_end, at_16.one_side_losing_end) == (0, 0, 0)
    assert (at_8.pairs_cut, at_8.prompt_tokens_lost, at_8.response_tokens_lost) == (2, 10, 6)
    assert (at_8.chosen_losing_end, at_8.rejected_losing_end, at_8.one_side_losing_end) == (0, 1, 1)
    assert (at_16.responses_too_long, at_8.responses_too_long) == (0, 1)
    assert len(at_8.one_side_examples) == 1


def test_the_modes_differ_in_the_end_of_the_prompt_that_is_lost(audit):
    found = audit(ROWS, [8])
    end, start = found[8, "keep_end"], found[8, "keep_start"]
    assert (end.prompts_losing_start, end.prompts_losing_end) == (2, 0)
    assert (start.prompts_losing_start, start.prompts_losing_end) == (0, 2)
    assert end.prompt_tokens_lost == start.prompt_tokens_lost


def test_pairs_that_become_identical_are_found(audit):
    """At 5 the second pair keeps 1 prompt token and "same" of both responses."""
    entry = audit(ROWS, [5])[5, "keep_end"]
    assert entry.identical == 1
    assert len(entry.identical_examples) == 1
    # Rejected of the first pair, which keeps 4 of 6 tokens, and both of the second.
    assert (entry.chosen_losing_end, entry.rejected_losing_end) == (1, 2)


def test_a_maximum_prompt_length_changes_what_is_truncated(audit):
    """At 16 with at most 2 prompt tokens the second pair loses 8 of 10; the first fits and keeps its 4."""
    entry = audit(ROWS, [16], max_prompt_length=2)[16, "keep_end"]
    assert (entry.max_prompt_length, entry.pairs_cut, entry.prompt_tokens_lost) == (2, 1, 8)


def test_lengths_without_room_are_refused(audit):
    with pytest.raises(UsageError, match="leaves no token"):
        audit(ROWS, [8], max_prompt_length=8)


@pytest.mark.parametrize("mode", ["keep_end", "keep_start"])
@pytest.mark.parametrize("max_length", [4, 9, 20, 64])
def test_the_audit_agrees_with_tokenize(make_prepared, byte_tokenizer, max_length, mode):
    letters = random.Random(max_length)
    lengths = [(letters.randint(1, 30), letters.randint(1, 9), letters.randint(10, 40)) for _ in range(60)]
    rows = [{"prompt": "p" * p, "chosen": "c" * c, "rejected": "c" * r} for p, c, r in lengths]
    folder = make_prepared(rows)
    counts = tokenize(
        folder, tokenizer=byte_tokenizer, max_length=max_length, truncation_mode=mode
    ).manifest.splits["train"]  # fmt: skip
    statistics = compute_statistics(open_prepared(folder), encoder=Encoder(byte_tokenizer), max_lengths=[max_length])
    (entry,) = [entry for entry in statistics.truncation if entry.truncation_mode == mode]
    assert entry.pairs == counts.pairs_read
    assert entry.identical == counts.dropped.get("equal_responses", 0)
    if not counts.dropped:  # what dropped pairs lose is not in tokenize's counts
        assert entry.prompts_losing_start + entry.prompts_losing_end == counts.prompts_cut
        assert entry.chosen_losing_end + entry.rejected_losing_end == counts.responses_cut
        assert entry.prompt_tokens_lost == counts.prompt_tokens_cut
        assert entry.response_tokens_lost == counts.response_tokens_cut


def test_pairs_that_a_template_refuses_are_counted_but_not_truncated(make_prepared, make_tokenizer):
    template = "{% if messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}" + (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{% endif %}"
    )
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "maybe"}],
        }
        for prompt in ("no", "hello")
    ]
    folder = open_prepared(make_prepared(rows, form="conversational"))
    tokenizer = make_tokenizer(template=template, eos_token="<|im_end|>")
    statistics = compute_statistics(folder, encoder=Encoder(tokenizer), max_lengths=[64])
    assert statistics.refused == {"template_refused": 1}
    assert {entry.pairs for entry in statistics.truncation} == {1}
    assert statistics.tokens.prompt.count == 1
