"""The ordered map in threads."""

import threading
from itertools import count, islice

import pytest

from dpo_data.engine.threads import map_in_threads


def test_results_come_in_the_order_of_the_items():
    gates = [threading.Event() for _ in range(4)]

    def wait_for_the_next(item: int, job: str) -> str:
        if item < 3:
            assert gates[item + 1].wait(timeout=10)
        gates[item].set()
        return f"{job}{item}"

    assert list(map_in_threads(wait_for_the_next, range(4), "item ", threads=4)) == [f"item {n}" for n in range(4)]


def test_items_are_read_at_most_one_more_than_the_threads_ahead():
    read = []

    def items():
        for number in count():
            read.append(number)
            yield number

    results = map_in_threads(lambda item, job: item + job, items(), 10, threads=2)
    assert list(islice(results, 3)) == [10, 11, 12]
    assert read == list(range(5))
    results.close()


def test_no_items_give_no_results():
    assert list(map_in_threads(lambda item, job: item, [], None, threads=2)) == []


def test_an_exception_of_the_function_passes_to_the_caller():
    def fail(item: int, job: None) -> int:
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        list(map_in_threads(fail, range(3), None, threads=2))
