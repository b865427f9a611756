"""Functions that worker processes import by name."""

import multiprocessing
import os
import signal


def add(item: int, job: int) -> int:
    """Return the sum."""
    return item + job


def process_id(item: int, job: None) -> int:
    """Return the id of the process that works."""
    return os.getpid()


def fail_at(item: int, job: int) -> int:
    """Raise ValueError at one item."""
    if item == job:
        raise ValueError(f"item {item}")
    return item


def kill_worker(item: int, job: None) -> int:
    """Kill the process that works, unless it is the first."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
