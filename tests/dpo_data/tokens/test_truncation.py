"""The truncation rule, compared with a plain implementation of its definition on lists; and ragged sequences."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpo_data.errors import UsageError
from dpo_data.options import TruncationMode
from dpo_data.ragged import Ragged, equal_rows
from dpo_data.tokens.truncation import check_limits, cut_prompts, kept_lengths

BOS = 1

Pair = tuple[list[int], list[int], list[int]]


def ragged(sequences: list[list[int]]) -> Ragged:
    lengths = [len(sequence) for sequence in sequences]
    values = [token for sequence in sequences for token in sequence]
    return Ragged(np.array(values, np.int32), np.array([0, *np.cumsum(lengths, dtype=np.int64)], np.int64))


def lists(ids: Ragged) -> list[list[int]]:
    return [ids.values[start:end].tolist() for start, end in zip(ids.offsets[:-1], ids.offsets[1:], strict=True)]


def truncate(
    pairs: list[Pair],
    max_length: int | None,
    max_prompt_length: int | None = None,
    mode: TruncationMode = "keep_end",
    bos: int | None = None,
) -> list[Pair]:
    """The functions under test, combined as in tokenization."""
    prompt, chosen, rejected = (ragged([pair[side] for pair in pairs]) for side in range(3))
    kept = kept_lengths(prompt.lengths, chosen.lengths, rejected.lengths, max_length, max_prompt_length)
    sides = (
        cut_prompts(prompt, kept.prompt, mode, bos),
        chosen.cut_end(kept.chosen),
        rejected.cut_end(kept.rejected),
    )
    return list(zip(*map(lists, sides), strict=True))


def truncate_by_definition(
    pair: Pair, max_length: int | None, max_prompt_length: int | None, mode: TruncationMode, bos: int | None
) -> Pair:
    """The rule of the docstring of dpo_data.tokens.truncation, line by line."""
    prompt, chosen, rejected = pair
    p, r = len(prompt), max(len(chosen), len(rejected))
    if max_length is None or p + r <= max_length:
        return pair
    if max_prompt_length is not None:
        keep = min(p, max_prompt_length)
    else:
        keep = max(max_length - r, min(p, max_length // 4), 1)
    if mode == "keep_start":
        cut = prompt[:keep]
    else:
        cut = prompt[len(prompt) - keep :]
        if bos is not None and prompt[0] == bos:
            cut = [bos, *cut[1:]]
    room = max_length - len(cut)
    return cut, chosen[:room], rejected[:room]


token = st.integers(2, 9)
response = st.lists(token, max_size=14)
prompt = st.tuples(st.booleans(), st.lists(token, min_size=1, max_size=14)).map(
    lambda drawn: [BOS, *drawn[1]] if drawn[0] else drawn[1]
)
pair = st.tuples(prompt, response, response)
limits = st.integers(2, 20).flatmap(
    lambda length: st.tuples(st.just(length), st.one_of(st.none(), st.integers(1, length - 1)))
)
mode = st.sampled_from(["keep_end", "keep_start"])
bos = st.sampled_from([BOS, None])


@given(pairs=st.lists(pair, max_size=6), limits=limits, mode=mode, bos=bos)
def test_pairs_are_truncated_as_defined(pairs, limits, mode, bos):
    expected = [truncate_by_definition(pair, *limits, mode, bos) for pair in pairs]
    assert truncate(pairs, *limits, mode, bos) == expected


@given(pairs=st.lists(pair, min_size=1, max_size=6), limits=limits, mode=mode)
def test_a_pair_has_a_prompt_and_fits_after_truncation(pairs, limits, mode):
    for prompt_ids, chosen_ids, rejected_ids in truncate(pairs, *limits, mode, BOS):
        assert len(prompt_ids) >= 1
        assert len(prompt_ids) + max(len(chosen_ids), len(rejected_ids)) <= limits[0]


@given(pair=pair, limits=limits, mode=mode)
def test_a_pair_that_fits_is_unchanged(pair, limits, mode):
    assume(len(pair[0]) + max(len(pair[1]), len(pair[2])) <= limits[0])
    assert truncate([pair], *limits, mode, BOS) == [pair]


@given(pairs=st.lists(pair, max_size=4), mode=mode)
def test_without_max_length_nothing_is_truncated(pairs, mode):
    assert truncate(pairs, None, None, mode, BOS) == pairs


@given(pair=pair, limits=limits, mode=mode)
def test_a_response_keeps_its_beginning_and_loses_eos_only_if_truncated(pair, limits, mode):
    eos = 99
    prompt_ids, chosen_ids, rejected_ids = pair[0], [*pair[1], eos], [*pair[2], eos]
    _, *cut = truncate([(prompt_ids, chosen_ids, rejected_ids)], *limits, mode, BOS)[0]
    for before, after in zip((chosen_ids, rejected_ids), cut, strict=True):
        assert after == before[: len(after)]
        assert (eos in after) == (after == before)


@given(pair=pair, limits=limits)
def test_bos_survives_keep_end(pair, limits):
    prompt_ids = [BOS, *pair[0][1:]]
    (kept, _, _) = truncate([(prompt_ids, pair[1], pair[2])], *limits, "keep_end", BOS)[0]
    assert kept[0] == BOS
    assert kept[1:] == prompt_ids[len(prompt_ids) - len(kept) + 1 :]


def test_keep_end_drops_the_oldest_prompt_tokens_first():
    pairs = [([10, 11, 12, 13, 14], [20, 21, 22], [30])]
    assert truncate(pairs, 6, mode="keep_end") == [([12, 13, 14], [20, 21, 22], [30])]


def test_keep_start_drops_the_newest_prompt_tokens_first():
    pairs = [([10, 11, 12, 13, 14], [20, 21, 22], [30])]
    assert truncate(pairs, 6, mode="keep_start") == [([10, 11, 12], [20, 21, 22], [30])]


def test_responses_are_truncated_only_when_a_quarter_is_left_for_the_prompt():
    pairs = [(list(range(10, 18)), list(range(20, 30)), [30, 31])]
    assert truncate(pairs, 8) == [([16, 17], [20, 21, 22, 23, 24, 25], [30, 31])]


def test_one_prompt_token_is_kept_with_a_very_long_response():
    assert truncate([([10, 11], list(range(20, 40)), [30])], 2) == [([11], [20], [30])]
    assert truncate([([10, 11], list(range(20, 40)), [30])], 3) == [([11], [20, 21], [30])]


def test_max_prompt_length_limits_only_prompts_of_pairs_that_are_too_long():
    pairs = [([10, 11, 12, 13], [20], [30]), ([10, 11, 12, 13], [20, 21, 22], [30])]
    assert truncate(pairs, 6, 2) == [([10, 11, 12, 13], [20], [30]), ([12, 13], [20, 21, 22], [30])]


def test_responses_get_the_room_that_a_prompt_shorter_than_max_prompt_length_leaves():
    assert truncate([([10], [20, 21, 22, 23, 24, 25], [30])], 6, 4) == [([10], [20, 21, 22, 23, 24], [30])]


def test_bos_replaces_the_oldest_token_that_keep_end_keeps():
    pairs = [([BOS, 11, 12, 13], [20, 21], [30]), ([10, BOS, 12, 13], [20, 21], [30])]
    assert truncate(pairs, 4, bos=BOS) == [([BOS, 13], [20, 21], [30]), ([12, 13], [20, 21], [30])]


@pytest.mark.parametrize("mode", ["keep_end", "keep_start"])
def test_a_prompt_without_tokens_stays_empty(mode):
    pairs = [([], [20, 21, 22, 23], [30]), ([BOS, 11, 12], [20, 21], [30]), ([], [20, 21, 22, 23], [30])]
    cut = truncate(pairs, 3, mode=mode, bos=BOS)
    assert [row[0] for row in cut] == [[], [BOS], []]


def test_truncation_does_not_change_its_input():
    prompts = ragged([[BOS, 11, 12], [BOS, 14]])
    cut_prompts(prompts, np.array([2, 1]), "keep_end", BOS)
    assert lists(prompts) == [[BOS, 11, 12], [BOS, 14]]


@pytest.mark.parametrize(
    ("max_length", "max_prompt_length", "message"),
    [
        (1, None, "max_length=1: must be at least 2: a prompt token and a response token."),
        (0, None, "max_length=0: must be at least 2: a prompt token and a response token."),
        (-3, None, "max_length=-3: must be at least 2: a prompt token and a response token."),
        (8, 0, "max_prompt_length=0: must be at least 1: a prompt never becomes empty."),
        (8, -1, "max_prompt_length=-1: must be at least 1: a prompt never becomes empty."),
        (None, 4, "max_prompt_length=4: has no effect without truncation.\n  Give max_length= too."),
        (
            8,
            8,
            "max_prompt_length=8: leaves no token of max_length=8 for the response.\n"
            "  Give a smaller value; a quarter of the maximum length is common.",
        ),
    ],
)
def test_limits_without_room_for_prompt_or_response_are_refused(max_length, max_prompt_length, message):
    with pytest.raises(UsageError) as refusal:
        check_limits(max_length, max_prompt_length)
    assert str(refusal.value) == message


@pytest.mark.parametrize("accepted", [(None, None), (2, None), (2, 1), (8, 7), (1024, 256)])
def test_limits_with_room_for_both_are_accepted(accepted):
    assert check_limits(*accepted) is None


SEQUENCES = [[1, 2, 3], [], [4], [5, 6]]


def test_ragged_lengths_are_those_of_the_sequences():
    assert ragged(SEQUENCES).lengths.tolist() == [3, 0, 1, 2]


def test_ragged_cut_returns_a_slice_of_each_sequence():
    cut = ragged(SEQUENCES).cut(np.array([1, 0, 0, 1]), np.array([2, 0, 0, 1]))
    assert lists(cut) == [[2, 3], [], [], [6]]


def test_ragged_cut_end_returns_the_beginnings():
    assert lists(ragged(SEQUENCES).cut_end(np.array([2, 0, 1, 1]))) == [[1, 2], [], [4], [5]]


def test_ragged_take_repeats_and_reorders():
    assert lists(ragged(SEQUENCES).take(np.array([3, 0, 1, 3]))) == [[5, 6], [1, 2, 3], [], [5, 6]]


def test_ragged_select_returns_the_marked_sequences_in_order():
    assert lists(ragged(SEQUENCES).select(np.array([False, True, False, True]))) == [[], [5, 6]]
    assert lists(ragged(SEQUENCES).select(np.zeros(4, bool))) == []
    assert lists(ragged(SEQUENCES).select(np.ones(4, bool))) == SEQUENCES


@given(st.lists(st.lists(token, max_size=4), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=8))
def test_ragged_take_is_indexing(sequences, drawn):
    rows = [row % len(sequences) for row in drawn]
    assert lists(ragged(sequences).take(np.array(rows, np.int64))) == [sequences[row] for row in rows]


@given(st.lists(st.tuples(st.lists(st.integers(0, 1), max_size=3), st.lists(st.integers(0, 1), max_size=3))))
def test_equal_rows_compares_sequences_as_lists(rows):
    one, other = ragged([first for first, _ in rows]), ragged([second for _, second in rows])
    assert equal_rows(one, other).tolist() == [first == second for first, second in rows]
