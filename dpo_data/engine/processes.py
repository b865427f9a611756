"""An ordered map in worker processes, on Linux and macOS."""

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
from multiprocessing.process import BaseProcess
from typing import TypeVar

from dpo_data.errors import DataError, UsageError, argument, first_line

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")

#: Results per worker that may wait for an earlier one: a worker that starts slowly costs memory, not time.
MAX_PENDING = 16

#: How long one thread keeps the interpreter while others wait for it.
SWITCH_INTERVAL_S = 0.0001


def map_in_processes(
    function: Callable[[Item, Job], Result], items: Iterable[Item], job: Job, workers: int
) -> Iterator[Result]:
    """Yield `function(item, job)` for every item, in the order of the items; see `dpo_data.engine.ordered_map`.

    This process is the first worker: it computes while the others start, which takes as long as about ten items, and
    whenever they have enough to do.
    """
    if sys.platform == "win32":
        raise UsageError(f"worker processes need Linux or macOS.\n  Use {argument('workers', 1)}.", "workers", workers)
    # spawn: forking a process that has Arrow's threads can hang it.
    context = multiprocessing.get_context("spawn")
    try:
        pool = ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_exit_with_parent)
    except (OSError, ImportError, NotImplementedError) as error:  # Python raises each of them on some system
        raise UsageError(
            f"worker processes cannot be started: {first_line(error)}. They need shared memory (/dev/shm) and a few "
            f"open files.\n  Use {argument('workers', 1)}.",
            "workers",
            workers,
        ) from error
    pending: deque[Future[Result]] = deque()
    usual_interval_s = sys.getswitchinterval()
    try:
        # Results come through a pipe in pieces, and for each piece the pool's thread waits until this thread, which
        # computes, gives up the interpreter: with Python's 5 ms, workers spend half of their time on handing over.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        for item in items:
            if sum(not future.done() for future in pending) < 2 * (workers - 1):
                with _sigint_blocked():
                    pending.append(pool.submit(function, item, job))
            else:
                pending.append(_completed(function, item, job))
            while pending and (pending[0].done() or len(pending) >= MAX_PENDING * workers):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a worker process was killed, most likely because memory ran out.\n  Lower {argument('workers')}."
        ) from error
    finally:
        sys.setswitchinterval(usual_interval_s)
        pool.shutdown(wait=True, cancel_futures=True)


def _completed(function: Callable[[Item, Job], Result], item: Item, job: Job) -> Future[Result]:
    """Call the function in this process, and return its result, or its exception, as a future."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(item, job))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT while worker processes start, so that only the parent handles Ctrl-C."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _exit_with_parent() -> None:
    """Exit when the parent process ends; a killed parent cannot notify its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def _exit_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
