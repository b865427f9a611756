"""Order of the rows in an epoch."""

import numpy as np
import pytest

from dpo_train.batches.sampler import StepSampler


def test_pairs_of_a_prompt_are_in_one_step_unless_scattered() -> None:
    prompt = np.array([0, 0, 0, 1, 2, 3, 3, 4, 5, 6, 7, 7])
    together = StepSampler(12, micro_batch=4, accumulation=1, ranks=1, seed=0, prompts=prompt)
    scattered = StepSampler(12, micro_batch=4, accumulation=1, ranks=1, seed=0)
    orders = set()
    for epoch in range(6):
        steps = [step.tolist() for step in together.steps(epoch)]
        assert [len(step) for step in steps] == [4, 4, 4]
        assert sorted(row for step in steps for row in step) == list(range(12))
        orders.add(tuple(row for step in steps for row in step))
        for group in ({0, 1, 2}, {5, 6}, {10, 11}):
            assert sum(bool(group & set(step)) for step in steps) == 1
    assert len(orders) == 6
    assert any(
        len([step for step in scattered.steps(epoch) if {0, 1, 2} & set(step.tolist())]) > 1 for epoch in range(6)
    )


def test_a_prompt_with_more_pairs_than_a_step_is_split() -> None:
    sampler = StepSampler(7, micro_batch=3, accumulation=1, ranks=1, seed=0, prompts=np.array([0, 0, 0, 0, 0, 1, 1]))
    steps = [step.tolist() for step in sampler.steps(0)]
    assert [len(step) for step in steps] == [3, 3, 1]
    assert sorted(row for step in steps for row in step) == list(range(7))


def test_sequential_order_is_row_order() -> None:
    sampler = StepSampler(5, micro_batch=2, accumulation=1, ranks=1, seed=None, prompts=np.array([0, 1, 0, 1, 0]))
    assert [step.tolist() for step in sampler.steps(0)] == [[0, 1], [2, 3], [4]]


def test_rows_of_the_first_steps_are_those_that_are_trained_on() -> None:
    sampler = StepSampler(10, micro_batch=4, accumulation=1, ranks=1, seed=3)
    steps = [*sampler.steps(0), *sampler.steps(1)]
    for count in (1, 2, 4, 6):
        assert sampler.rows_of(count).tolist() == sorted({int(row) for step in steps[:count] for row in step})


def test_every_epoch_has_its_own_order_of_all_rows() -> None:
    sampler = StepSampler(10, micro_batch=4, accumulation=1, ranks=1, seed=0)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append([row for batch in sampler for row in batch])
    assert orders[0] == orders[2] != orders[1]
    assert all(sorted(order) == list(range(10)) for order in orders)


@pytest.mark.parametrize(
    ("ranks", "micro_batch", "accumulation"), [(1, 8, 1), (1, 1, 8), (2, 4, 1), (2, 1, 4), (4, 2, 1)]
)
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 19, 24])
def test_steps_have_the_same_rows_for_any_ranks_and_micro_batches(
    rows: int, ranks: int, micro_batch: int, accumulation: int
) -> None:
    sampler = StepSampler(rows, micro_batch=micro_batch, accumulation=accumulation, ranks=ranks, seed=0)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert len(batches) % ranks == 0
    assert all(1 <= len(batch) <= micro_batch for batch in batches)
    counted = [row for batch in batches for row in batch if row >= 0]
    assert counted == [
        row for batch in StepSampler(rows, micro_batch=8, accumulation=1, ranks=1, seed=0) for row in batch
    ]
    # Batches of full steps come first, so that every step but the last begins at a multiple of 8 pairs.
    full_steps = rows // 8
    assert [len(batch) for batch in batches[: full_steps * ranks * accumulation]] == [micro_batch] * (
        full_steps * ranks * accumulation
    )
