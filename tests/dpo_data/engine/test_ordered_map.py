"""The ordered map: results in the order of the items, from any number of workers."""

import os
import sys
from collections.abc import Iterator

import pytest
from engine_work import add, fail_at, kill_worker, process_id

from dpo_data.engine import ITEMS_WITHOUT_POOL, ordered_map
from dpo_data.errors import DataError, UsageError

#: More than are done without other processes, and more than wait for an earlier one.
MANY = 200


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(ordered_map(add, range(MANY), 1000, workers=workers)) == list(range(1000, 1000 + MANY))


def test_few_items_are_done_in_this_process() -> None:
    done = list(ordered_map(process_id, range(ITEMS_WITHOUT_POOL), None, workers=2))
    assert done == [os.getpid()] * ITEMS_WITHOUT_POOL


def test_many_items_are_done_in_this_process_and_in_others() -> None:
    done = list(ordered_map(process_id, range(5000), None, workers=2))
    assert len(set(done)) == 2
    assert os.getpid() in done


def test_items_are_read_as_results_are_taken() -> None:
    read = []

    def items() -> Iterator[int]:
        for item in range(MANY):
            read.append(item)
            yield item

    results = ordered_map(add, items(), 0)
    assert next(results) == 0
    assert read == [0]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_exception_of_the_function_follows_the_results_before_it(workers: int) -> None:
    results = ordered_map(fail_at, range(MANY), 50, workers=workers)
    assert [next(results) for _ in range(50)] == list(range(50))
    with pytest.raises(ValueError, match="item 50"):
        next(results)


def test_a_killed_worker_is_an_error_that_names_the_option() -> None:
    with pytest.raises(DataError) as caught:
        list(ordered_map(kill_worker, range(5000), None, workers=2))
    assert str(caught.value) == ("a worker process was killed, most likely because memory ran out.\n  Lower workers=.")


def test_the_switch_interval_of_the_interpreter_is_restored() -> None:
    before = sys.getswitchinterval()
    results = ordered_map(add, range(MANY), 0, workers=2)
    next(results)
    assert sys.getswitchinterval() < before
    results.close()
    assert sys.getswitchinterval() == before


def test_several_workers_are_refused_where_their_signals_cannot_be_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert list(ordered_map(add, range(MANY), 0)) == list(range(MANY))
    with pytest.raises(UsageError) as caught:
        list(ordered_map(add, range(MANY), 0, workers=4))
    assert str(caught.value) == "workers=4: worker processes need Linux or macOS.\n  Use workers=1."
