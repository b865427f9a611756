"""An ordered map in threads of this process, for functions that spend their time outside Python's global lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_threads(
    function: Callable[[Item, Job], Result], items: Iterable[Item], job: Job, *, threads: int
) -> Iterator[Result]:
    """Yield `function(item, job)` for every item, in the order of the items.

    Args:
        function: called in several threads at a time, one call a thread.
        items: read at most `threads` + 1 items ahead of the results taken.
        job: what all items share.
        threads: number of threads.
    """
    items = iter(items)
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while True:
            for item in islice(items, threads + 1 - len(pending)):
                pending.append(pool.submit(function, item, job))
            if not pending:
                return
            yield pending.popleft().result()
