"""Steps that are split into micro-batches under a token budget."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from prefix_rows import Rows, dataset, row_strategy
from toys import make_pairs

from dpo_train.batches.budget import TokenBudget
from dpo_train.batches.packed import collate_packed
from dpo_train.data.rows import PairRows


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(row_strategy, min_size=1, max_size=20), budget=st.integers(1, 60), ranks=st.integers(1, 3))
def test_ranks_get_the_same_number_of_micro_batches_within_the_budget(drawn: Rows, budget: int, ranks: int) -> None:
    rows = PairRows(dataset(drawn))
    split = TokenBudget(rows, budget).split_into_micro_batches(np.arange(len(rows)), ranks)
    assert len(split) == ranks
    assert len({len(of_rank) for of_rank in split}) == 1
    counted = [row for of_rank in split for batch in of_rank for row in batch if row >= 0]
    assert sorted(counted) == list(range(len(rows)))
    batches = [batch for of_rank in split for batch in of_rank]
    assert len(batches) <= len(rows) + ranks - 1
    for batch in batches:
        assert batch
        assert collate_packed(rows.pairs(batch)).tokens <= budget or len(batch) == 1


def test_loads_of_ranks_are_balanced() -> None:
    rows = PairRows(make_pairs(64))
    tokens = sum(rows.lengths.values())
    split = TokenBudget(rows, 100).split_into_micro_batches(np.arange(64), 2)
    loads = [[sum(tokens[row] for row in batch) for batch in of_rank] for of_rank in split]
    assert abs(sum(loads[0]) - sum(loads[1])) <= 30
    assert all(abs(first - second) <= 20 for first, second in zip(*loads, strict=True))
