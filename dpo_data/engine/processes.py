"""An ordered map over a stream of items in worker processes."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing.process import BaseProcess
from typing import TypeVar

from dpo_data.errors import DataError

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")

#: Shorter inputs are finished before a second process would have started.
ITEMS_WITHOUT_POOL = 8

#: Results per worker that may wait for an earlier one: a slow start of the others costs memory, not time.
MAX_PENDING = 16

#: How long one thread keeps the interpreter while others wait for it.
SWITCH_INTERVAL_S = 0.0001


def ordered_map(
    function: Callable[[Item, Job], Result], items: Iterable[Item], job: Job, *, workers: int
) -> Iterator[Result]:
    """Yield `function(item, job)` of every item, in the order of the items.

    The work is spread over `workers` processes, of which this one is the first: it works while the others start, which
    takes as long as about ten items, and whenever they have enough to do. `function` must be importable by name; items,
    job and results must be picklable.

    Raises: DataError: a worker process was killed.
    """
    items = iter(items)
    first = list(islice(items, ITEMS_WITHOUT_POOL + 1)) if workers > 1 else []
    if len(first) <= ITEMS_WITHOUT_POOL:
        for item in chain(first, items):
            yield function(item, job)
        return
    # spawn: forking a process that has Arrow's threads can hang it.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_start_worker)
    pending: deque[Future[Result]] = deque()
    usual_interval_s = sys.getswitchinterval()
    try:
        # Results come through a pipe in pieces, and for each the pool's thread waits until this one, which computes,
        # makes way: with Python's 5 ms a worker spends half of its time on handing over.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for item in chain(first, items):
            if sum(not future.done() for future in pending) < 2 * (workers - 1):
                with _ctrl_c_blocked():
                    pending.append(pool.submit(function, item, job))
            else:
                own: Future[Result] = Future()
                own.set_result(function(item, job))
                pending.append(own)
            while pending and (pending[0].done() or len(pending) >= MAX_PENDING * workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, most often because memory ran out.\n  Run again with fewer --workers."
        ) from error
    finally:
        sys.setswitchinterval(usual_interval_s)
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes that start in the block never see Ctrl-C, not even while they are loading: it is their parent's."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _start_worker() -> None:
    """End with the parent: a killed one can tell its workers nothing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
