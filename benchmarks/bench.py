"""Shared parts of the benchmark scripts: facts about the machine, medians, Markdown tables, checked subprocesses."""

import importlib.metadata
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
DPO_DATA = str(Path(sys.executable).with_name("dpo-data"))


def cpu_model() -> str:
    """Return the name of the processor."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.processor()


def results_file(what: str) -> Path:
    """Return benchmarks/results/<what>_<hardware>_<yyyymm>.md for this machine and month."""
    hardware = re.sub(r"\W+", "-", f"{cpu_model()} {psutil.cpu_count()} cores".lower())
    return RESULTS / f"{what}_{hardware}_{time.strftime('%Y%m')}.md"


def machine_facts() -> list[str]:
    """Return Markdown list items: the command, the machine, Python, and the measured commit."""
    memory_gib = psutil.virtual_memory().total / 2**30
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    machine = f"{cpu_model()}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.platform()}"
    return [
        f"- command: `{shlex.join(['python', *sys.argv])}`",
        f"- machine: {machine}; load average at the start {psutil.getloadavg()[0]:.2f}",
        f"- commit: {commit.stdout.strip() or 'none'}, {time.strftime('%Y-%m-%d')}",
        f"- software: Python {platform.python_version()}",
    ]


def versions(packages: Iterable[str]) -> str:
    """Return `name version` of each of these distributions, joined by commas."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def run(command: Sequence[str], **options) -> tuple[float, str]:
    """Run a process; return its wall seconds and standard output, or exit with its standard error if it failed."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    elapsed_s = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"exit code {done.returncode} from {' '.join(command)}\n{done.stderr[-4000:]}")
    return elapsed_s, done.stdout


def median_and_range(values: Sequence[float], digits: int) -> str:
    """Return `median (min to max)`."""
    low, middle, high = (f"{value:,.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are padded, so that it also reads well in a terminal."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    padded = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    padded.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(padded)
