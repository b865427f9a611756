"""Runs that are killed at random points, and what readers and the next run find."""

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from trials import content, copy, run, start
from world import TRAIN, World

from dpo_data.errors import DataError
from dpo_data.prepared.reader import damaged_files, open_prepared

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def kill_trials(world: World, rng: random.Random, trials: int) -> Iterator[tuple[str, str, str]]:
    """Yield what was killed, the outcome and details."""
    scratch = world.folder / "kills"
    log = scratch / "log"
    before, out = scratch / "before", scratch / "out"
    convert = ("dpo-data", "convert", "pairs", "--max-invalid", "1", "--form", "text", "--output", out)
    run(log, *convert[:-1], before, "--input", world.other)
    tokenize = ("dpo-data", "tokenize", world.prepared, "-t", world.model, "--cache-dir", out)
    train = ("dpo-train", "--data", world.prepared, "--model", world.model, "--output", out, *TRAIN)
    commands = {
        "convert": ((*convert, "--input", world.raw), None, ()),
        "convert --overwrite": ((*convert, "--input", world.raw, "--overwrite"), before, ()),
        "tokenize": (tokenize, None, ()),
        "dpo-train": (train, None, ("--resume",)),
    }
    expected, took = {}, {}
    for name, (words, old, _) in commands.items():
        _reset(out, old)
        began = time.monotonic()
        ended = run(log, *words)
        assert ended.code == 0, (name, ended)
        expected[name], took[name] = _result(out), time.monotonic() - began
    for number in range(trials):
        name = list(commands)[number % len(commands)]
        words, old, resuming = commands[name]
        _reset(out, old)
        stop, after_s = rng.choice(SIGNALS), rng.uniform(0, 1.05) * took[name]
        child = start(log, *words)
        time.sleep(after_s)
        try:
            import os

            os.kill(child.pid, stop)
        except ProcessLookupError:
            pass
        ended = child.wait()
        details = f"{stop.name} after {after_s:.3f} s"
        if ended.fault and not (stop in (signal.SIGKILL, signal.SIGTERM) and ended.code == -stop):
            yield f"killed {name}", ended.fault, f"{details}: {ended.err[-300:]}"
            continue
        if name.startswith("convert") and (wrong := _reader_finds(out, before if old else None)):
            yield f"killed {name}", "silent", f"{details}: {wrong}"
            continue
        extra = resuming if resuming and any(out.glob("checkpoint-*/checkpoint_manifest.json")) else ()
        if name == "dpo-train" and not extra and out.exists():
            extra = ("--overwrite",)
        again = run(log, *words, *extra)
        if name == "convert" and again.code == 2 and "holds a finished dataset" in again.err:
            again = again._replace(code=0)  # it was killed after the end
        outcome = again.fault or ("found" if again.code == 0 and _result(out) == expected[name] else "silent")
        yield f"killed {name}", outcome, f"{details}; then exit {again.code}: {again.err[-300:]}"


def _reset(out: Path, old: Path | None) -> None:
    shutil.rmtree(out, ignore_errors=True)
    if old is not None:
        copy(old, out)


def _result(out: Path) -> dict[str, str]:
    """Return the content of an output: of a run, its weights."""
    if (out / "model.safetensors").is_file():
        return {name: hash_ for name, hash_ in content(out).items() if name == "model.safetensors"}
    return content(out)


def _reader_finds(out: Path, old: Path | None) -> str | None:
    """Return what a reader finds wrong with a folder that a killed run left, if it reads as complete."""
    try:
        prepared = open_prepared(out)
    except DataError:
        return None
    damaged = damaged_files(out, prepared.manifest.files)
    return f"{damaged}" if damaged else None
