"""Commands in forked children, whose end of any kind is an outcome."""

import faulthandler
import hashlib
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: A command that takes longer hangs.
TIMEOUT_S = 120


class Ended(NamedTuple):
    """Result of a command: its exit code (negative for a signal, None if it hung), and all of its output."""

    code: int | None
    out: str
    err: str

    @property
    def fault(self) -> str | None:
        """The fault that no command may have: "crash", "hang" or "traceback"; None without one."""
        if self.code is None:
            return "hang"
        if self.code < 0:
            return "crash"
        return "traceback" if "Traceback (most recent call last)" in self.err else None


@dataclass
class Child:
    """A forked child that runs a command."""

    pid: int
    folder: Path

    def wait(self, timeout_s: float = TIMEOUT_S) -> Ended:
        """Wait for the end of the command."""
        deadline = time.monotonic() + timeout_s
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGUSR1)
                time.sleep(1)
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return Ended(None, *self._printed())
            time.sleep(0.002)
        return Ended(os.waitstatus_to_exitcode(status), *self._printed())

    def _printed(self) -> tuple[str, str]:
        return tuple((self.folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))  # type: ignore[return-value]


def start(folder: Path, *words: object) -> Child:
    """Start a command line, dpo-data or dpo-train, in a forked child; what it prints goes to files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)

    def command() -> int:
        from dpo_data.__main__ import main as dpo_data
        from dpo_train.__main__ import main as dpo_train

        sys.argv = [str(word) for word in words]
        try:
            {"dpo-data": dpo_data, "dpo-train": dpo_train}[sys.argv[0]]()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    return fork(folder, command)


def fork(folder: Path, task: Callable[[], int]) -> Child:
    """Run a function in a forked child, whose exit code is the result."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, folder)
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        faulthandler.register(signal.SIGUSR1, file=2)  # a hang is printed with its stacks
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace")
        code = task()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                code = code or 1
        os._exit(code)
    raise AssertionError


def run(folder: Path, *words: object) -> Ended:
    """Run a command line to its end."""
    return start(folder, *words).wait()


def content(folder: Path, but: tuple[str, ...] = ("provenance.json",)) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in but
    }


def copy(source: Path, target: Path) -> Path:
    """Replace a folder by a copy of another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def damage(folder: Path, names: list[str], rng: random.Random) -> tuple[str, list[str]]:
    """Damage a file of a folder, or swap two, and return what was done and their names."""
    while True:
        name = rng.choice(names)
        path = folder / name
        old = path.read_bytes()
        how = rng.choice(["flip", "truncate", "zero", "swap", "delete"])
        if how == "delete":
            path.unlink()
            return how, [name]
        if how == "swap":
            other = rng.choice(names)
            new = (folder / other).read_bytes()
            if new != old:
                path.write_bytes(new)
                (folder / other).write_bytes(old)
                return how, [name, other]
            continue
        start = rng.randrange(len(old)) if old else 0
        end = min(len(old), start + rng.choice([1, 8, 64, 4096]))
        if how == "flip" and old:
            new = old[:start] + bytes([old[start] ^ (1 << rng.randrange(8))]) + old[start + 1 :]
        elif how == "truncate":
            new = old[:start]
        else:
            new = old[:start] + bytes(end - start) + old[end:]
        if new != old:
            path.write_bytes(new)
            return how, [name]
