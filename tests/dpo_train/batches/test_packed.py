"""The prefix tree of a packed batch."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prefix_rows import ROWS, Rows, dataset, packed, row_strategy

from dpo_train.batches.budget import TokenBudget
from dpo_train.data.rows import PairRows


def sequences_of(rows: Rows) -> set[tuple[int, ...]]:
    """Return what a model has to compute for some rows: each prompt with each response, without the last token."""
    return {tuple((row["prompt_ids"] + row[f"{side}_ids"])[:-1]) for row in rows for side in ("chosen", "rejected")}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row_strategy, min_size=1, max_size=8))
@example(rows=ROWS)
def test_a_packed_batch_has_each_distinct_prefix_once(rows: Rows) -> None:
    batch = packed(rows)
    prefixes = {sequence[:end] for sequence in sequences_of(rows) for end in range(1, len(sequence) + 1)}
    assert batch.tokens == batch.input_ids.numel() == batch.position_ids.numel() == len(prefixes)
    responses = {(*row["prompt_ids"], -1, *row[f"{side}_ids"]) for row in rows for side in ("chosen", "rejected")}
    assert len(batch.lengths) == len(responses)
    assert int(batch.lengths.sum()) == len(batch.targets) == sum(len(r) - r.index(-1) - 1 for r in responses)
    predicting = {
        tuple(row["prompt_ids"] + row[f"{side}_ids"][:end])
        for row in rows
        for side in ("chosen", "rejected")
        for end in range(len(row[f"{side}_ids"]))
    }
    assert len(batch.logits_to_keep) == len(predicting)
    assert (batch.predictors.diff() >= 0).all()  # ascending, as a chunked head needs them


def test_a_ranking_of_seven_responses_is_one_prompt_and_seven_segments() -> None:
    responses = [[10 + index] * (index + 2) for index in range(7)]
    rows = [
        {"prompt_ids": list(range(100, 120)), "chosen_ids": responses[better], "rejected_ids": responses[worse]}
        for better in range(7)
        for worse in range(better + 1, 7)
    ]
    batch = packed(rows)
    assert len(rows) == batch.size == 21
    assert batch.tokens == 20 + sum(range(1, 8))
    assert len(batch.lengths) == len(batch.segments.table) == 7


def test_a_common_beginning_of_prompts_is_packed_once() -> None:
    """Five prompts have a system message of 40 tokens, and a sixth continues the conversation of the first."""
    system = list(range(100, 140))
    rows = [
        {"prompt_ids": [*system, 10 + turn, 3], "chosen_ids": [5, 20 + turn, 9], "rejected_ids": [6, 9]}
        for turn in range(5)
    ]
    rows.append({"prompt_ids": [*system, 10, 3, 5, 20, 8], "chosen_ids": [7, 9], "rejected_ids": [4, 9]})
    assert packed(rows).tokens == 40 + 5 * (2 + 2 + 1) + (1 + 1 + 1)
    budget = TokenBudget(PairRows(dataset(rows)), 80)
    (one_rank,) = budget.split_into_micro_batches(np.arange(6), 1)
    assert [sorted(batch) for batch in one_rank] == [[0, 1, 2, 3, 4, 5]]
    two_ranks = budget.split_into_micro_batches(np.arange(6), 2)
    assert sorted(map(len, itertools.chain(*two_ranks))) == [3, 3]  # each rank gets its share


@pytest.mark.parametrize(("common", "tokens"), [(2, 2 + 2 * (98 + 1)), (1, 2 * (100 + 1))])
def test_a_prefix_shorter_than_one_64th_of_its_sequence_is_not_shared(common: int, tokens: int) -> None:
    """Two prompts of 100 tokens share the first two or one of them; of each response, one token is packed."""
    prompts = [[5] * common + [10 + row] * (100 - common) for row in range(2)]
    batch = packed([{"prompt_ids": prompt, "chosen_ids": [7, 9], "rejected_ids": [8]} for prompt in prompts])
    assert batch.tokens == tokens


def test_a_packed_token_attends_to_its_sequence_up_to_itself() -> None:
    """Sequences are rebuilt from the table alone."""
    batch = packed(ROWS)
    table = batch.segments.table
    ids, positions = batch.input_ids[0].tolist(), batch.position_ids[0].tolist()
    attended: list[list[int]] = []  # indices that the last token of each segment attends to
    for length, parent, shared in table.tolist():
        start = sum(table[: len(attended), 0])
        before = [] if parent < 0 else attended[parent]
        # The last ones that the parent attends to are its own.
        own = int(table[parent, 0]) if parent >= 0 else 0
        attended.append([*before[: len(before) - own + shared], *range(start, start + length)])
    for indices in attended:
        assert [positions[index] for index in indices] == list(range(len(indices)))
    rebuilt = {tuple(ids[index] for index in indices) for indices in attended}
    # A sequence that is the prefix of another one has no segment of its own.
    sequences = sequences_of(ROWS)
    assert rebuilt == {one for one in sequences if not any(other[: len(one)] == one != other for other in sequences)}
    for of_pairs, column in ((batch.chosen, "chosen_ids"), (batch.rejected, "rejected_ids")):
        for response, row in zip(of_pairs.tolist(), ROWS, strict=True):
            in_response = batch.responses == response
            assert batch.targets[in_response].tolist() == row[column]
            predicting = batch.logits_to_keep[batch.predictors[in_response]].tolist()
            start = len(row["prompt_ids"]) - 1
            assert [positions[index] for index in predicting] == list(range(start, start + len(row[column])))
    assert len({tuple(key) for key in batch.keys.tolist()}) == len(batch.lengths)


def test_the_boundary_of_the_prompt_is_part_of_the_key_of_a_response() -> None:
    early = packed([{"prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [9]}])
    late = packed([{"prompt_ids": [1, 2, 3], "chosen_ids": [4], "rejected_ids": [9]}])
    assert early.keys[0].tolist() != late.keys[0].tolist()


def test_keys_of_a_batch_are_those_of_its_rows() -> None:
    batch = packed(ROWS)
    expected = torch.stack([batch.keys[batch.chosen], batch.keys[batch.rejected]], dim=1)
    np.testing.assert_array_equal(PairRows(dataset(ROWS)).response_keys(np.arange(len(ROWS))), expected)
