"""Where work runs: one function over many items, in this process or in several, with the results in order.

Callers rely on the order of the results alone, so that every number of workers writes the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeVar

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")

#: This many items are done before a second process has started.
ITEMS_WITHOUT_POOL = 8

__all__ = ["ITEMS_WITHOUT_POOL", "ordered_map"]


def ordered_map(
    function: Callable[[Item, Job], Result], items: Iterable[Item], job: Job, *, workers: int = 1
) -> Iterator[Result]:
    """Yield `function(item, job)` for every item, in the order of the items.

    Args:
        function: pure, and importable by name where there are several workers.
        items: read only as fast as the results are taken.
        job: what all items share.
        workers: processes, this one included; with more than one, items, job and results must be picklable.

    Raises:
        DataError: a worker process was killed.
        UsageError: several workers on a system that does not support them.
    """
    items = iter(items)
    first = list(islice(items, ITEMS_WITHOUT_POOL + 1)) if workers > 1 else []
    if len(first) <= ITEMS_WITHOUT_POOL:
        for item in chain(first, items):
            yield function(item, job)
    else:
        from dpo_data.engine.processes import map_in_processes

        yield from map_in_processes(function, chain(first, items), job, workers)
