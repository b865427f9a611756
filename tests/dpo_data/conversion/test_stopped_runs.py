"""Runs that are killed or interrupted leave nothing that reads as complete."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conversions import hashes, pair, refusal

from dpo_data import convert, open_prepared
from dpo_data.errors import PreparedError, UsageError

#: 12 MB, twelve chunks: enough to start workers.
LONG_ROWS = [json.dumps(pair(n, chosen=f"yes {n} " * 1000)).encode() + b"\n" for n in range(1500)]
#: Three chunks.
FEW_ROWS = LONG_ROWS[:400]


def command(out: Path, workers: int) -> list[str]:
    # In automatic form, the run would wait for its first 1,000 rows.
    options = ["--input", "-", "--form", "text", "--workers", str(workers), "--output", str(out), "--json"]
    return [sys.executable, "-m", "dpo_data", "convert", "pairs", *options]


@contextmanager
def held_run(out: Path, workers: int = 1) -> Iterator[subprocess.Popen[bytes]]:
    """Give a run in the middle of its work: some rows are written, and it waits for more on standard input."""
    run = subprocess.Popen(
        command(out, workers),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that a signal can go to all of its processes, as Ctrl-C does
    )
    try:
        assert run.stdin is not None
        run.stdin.write(b"".join(LONG_ROWS if workers > 1 else FEW_ROWS))
        run.stdin.flush()
        shard = out / ".partial" / "train" / "00000"
        deadline = time.monotonic() + 30
        while not (shard.exists() and shard.stat().st_size > 1_000_000):
            assert run.poll() is None, run.stderr and run.stderr.read().decode()
            assert time.monotonic() < deadline
            if workers > 1:  # the run works while its workers start: it gets more rows than it can finish
                run.stdin.write(b"".join(LONG_ROWS[:200]))
                run.stdin.flush()
            time.sleep(0.02)
        yield run
    finally:
        run.kill()
        run.communicate()


def test_a_killed_run_leaves_an_unfinished_folder_and_the_next_run_completes_it(tmp_path, monkeypatch):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    with held_run(killed) as run:
        run.send_signal(signal.SIGKILL)
        assert run.wait(10) == -signal.SIGKILL
    with pytest.raises(PreparedError, match="is unfinished: a run was stopped"):
        open_prepared(killed)
    assert [path.name for path in killed.iterdir()] == [".partial"]
    (tmp_path / "rows").write_bytes(b"".join(FEW_ROWS))
    for out in (killed, undisturbed):
        with (tmp_path / "rows").open() as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            convert("pairs", ["-"], output=out, form="text")
    assert hashes(killed) == hashes(undisturbed)
    assert open_prepared(killed).manifest.pairs == len(FEW_ROWS)


def test_the_workers_of_a_killed_run_exit_with_it(tmp_path):
    with held_run(tmp_path / "out", workers=2) as run:
        workers = psutil.Process(run.pid).children(recursive=True)
        assert len(workers) >= 2
        run.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=10)
    assert [process for process in alive if process.is_running() and process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_nothing_behind(tmp_path, workers):
    out = tmp_path / "out"
    with held_run(out, workers) as run:
        os.killpg(run.pid, signal.SIGINT)
        output, errors = run.communicate(timeout=20)
    # A slow machine shows progress first.
    lines = [line for line in errors.decode().splitlines() if not line.startswith("Converting  ")]
    assert lines == ["Stopped.", f"  {out}: nothing of this run was left behind."]
    assert (run.returncode, output) == (130, b"")
    assert not out.exists()


def test_ctrl_c_over_a_finished_folder_leaves_it_as_it_was(tmp_path, raw):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out, form="text")
    before = hashes(out)

    def interrupt(fraction: float | None, rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert("pairs", raw, output=out, overwrite=True, progress=interrupt, form="text")
    assert hashes(out) == before


def test_a_second_run_into_a_folder_that_is_being_written_is_refused(tmp_path, raw):
    out = tmp_path / "out"
    with held_run(out) as run:
        for overwrite in (False, True):
            assert refusal(UsageError, raw, output=out, overwrite=overwrite) == (
                f"{out}: another run is writing it.\n  Wait for it, or name another folder."
            )
        output, errors = run.communicate(timeout=20)  # its input ends, and it completes
    assert (run.returncode, errors) == (0, b"")
    assert json.loads(output)["manifest"]["pairs"] == len(FEW_ROWS)
    assert open_prepared(out).manifest.pairs == len(FEW_ROWS)


def test_a_rejected_run_exits_with_one(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(1), "{"])
    options = ["--input", str(raw), "--output", str(tmp_path / "out"), "--split", "train", "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "dpo_data", "convert", "pairs", *options], check=False, capture_output=True
    )
    assert (run.returncode, run.stderr) == (1, b"")
    assert json.loads(run.stdout)["manifest"]["status"] == "rejected"
    assert (tmp_path / "out" / "quarantine" / "train.jsonl").is_file()


#: Replaces a finished folder again and again, each time killed one step later: a step is any creation, move or removal
#: of a file or folder of the output. Prints what a reader finds after each kill, and what the next run writes.
KILLED_AT_EVERY_STEP = """
import hashlib, json, os, shutil, signal, sys
from pathlib import Path
import dpo_data.sources.pairs, pandas  # here, and not in each child; Arrow loads pandas
from dpo_data.conversion.convert import convert
from dpo_data.errors import DataError
from dpo_data.prepared.reader import damaged_files, open_prepared

old, new, work = map(Path, sys.argv[1:])

def forked(task):
    if not (child := os.fork()):
        task()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def run(folder):
    convert("pairs", [new], output=folder, overwrite=True, form="text")

def killed_at(step):
    seen = 0
    def watch(event, arguments):
        nonlocal seen
        if event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") and ".keys" not in str(arguments[0]):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    run(work)

def content(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in ("provenance.json", "lock")}

def found():
    try:
        prepared = open_prepared(work)
        return [sorted(damaged_files(work, prepared.manifest.files)), prepared.manifest.pairs]
    except DataError as error:
        return str(error).splitlines()[0]

before = work.with_name("before")
forked(lambda: convert("pairs", [old], output=before, form="text"))
results, step, code = [], 0, -9
while code == -9:
    step += 1
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(before, work)
    code = forked(lambda: killed_at(step))
    reader = found()
    forked(lambda: run(work))
    results.append([code, reader, content(work)])
print(json.dumps(results))
"""


def test_a_run_killed_at_any_step_leaves_the_old_folder_the_new_one_or_an_unfinished_one(tmp_path, write_rows):
    old = write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])
    new = write_rows(tmp_path / "in" / "test.jsonl", [pair(2), pair(3)])
    convert("pairs", [new], output=tmp_path / "undisturbed", form="text")
    expected = {Path(name).name: hash_ for name, hash_ in hashes(tmp_path / "undisturbed").items()}
    work = tmp_path / "work"
    script = [sys.executable, "-c", KILLED_AT_EVERY_STEP, old, new, work]
    results = json.loads(subprocess.run(script, check=True, capture_output=True).stdout)
    assert [code for code, *_ in results] == [-signal.SIGKILL] * (len(results) - 1) + [0]
    readers = [reader for _, reader, _ in results]
    whole_old, unfinished, whole_new = [[], 1], f"{work}: is unfinished: a run was stopped.", [[], 2]
    changes = [reader for n, reader in enumerate(readers) if not n or reader != readers[n - 1]]
    assert changes == [whole_old, unfinished, whole_new]
    assert [content for *_, content in results] == [expected] * len(results)
