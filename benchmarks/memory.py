"""Peak memory of `dpo-data convert hh-rlhf` over generated rows: the sum of PSS over its processes.

    python benchmarks/memory.py

PSS divides a shared page among its processes, so the sum is the memory that the conversion really takes; pages of
mapped files count too. It is sampled every --interval seconds; a shorter spike can be missed.
"""

import argparse
import json
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
from bench import DPO_DATA, machine_facts, table

TARGET_GIB = 1.5
BYTES_PER_ROW = 6_000  # raw text, prepared text, and the room that both leave free
WORDS = [
    a + b
    for a in ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "ve", "wi")
    for b in ("ran", "lem", "tis", "dor", "nak", "pu")
]


def sentence(source: random.Random, size: int) -> str:
    """About `size` characters of made-up words."""
    return " ".join(source.choices(WORDS, k=max(1, size // 6)))


def write_rows(path: Path, rows: int) -> None:
    """Distinct hh-rlhf-shaped rows of about 400 to 900 characters a side; the same rows every time."""
    source = random.Random(2)
    with path.open("w", encoding="utf-8") as file:
        for row in range(rows):
            prompt = f"\n\nHuman: Question {row}: {sentence(source, source.randint(250, 500))}?\n\nAssistant:"
            chosen, rejected = (f"{prompt} {sentence(source, source.randint(120, 350))}." for _ in range(2))
            file.write(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n")


def process_pss(pid: int) -> dict[str, int]:
    """Bytes by kind, `Pss` the sum of them; nothing once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    fields = (line.split() for line in lines if line.startswith("Pss"))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in fields}


def tree_pss(root: psutil.Process) -> Counter[str]:
    """Bytes by kind, summed over a process and all its descendants."""
    total: Counter[str] = Counter()
    for process in [root, *root.children(recursive=True)]:
        total.update(process_pss(process.pid))
    return total


def sampled_peak(command: list[str], interval_s: float) -> tuple[float, Counter[str]]:
    """Wall seconds of the command, and its sample with the highest sum of PSS."""
    start = time.perf_counter()
    peak: Counter[str] = Counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, tree_pss(root), key=lambda sample: sample["Pss"])
            time.sleep(interval_s)
        elapsed_s = time.perf_counter() - start
        if process.returncode:
            log.seek(0)
            sys.exit(f"exit code {process.returncode} from {shlex.join(command)}\n{log.read().decode()[-4000:]}")
    return elapsed_s, peak


def measure(rows: int, workers: int, interval_s: float, temp: Path | None) -> list[str]:
    """One line of the table: the conversion of that many generated rows."""
    with tempfile.TemporaryDirectory(dir=temp) as folder:
        free = shutil.disk_usage(folder).free
        if free < rows * BYTES_PER_ROW:
            sys.exit(f"{folder}: {free:,} bytes free, {rows:,} rows need {rows * BYTES_PER_ROW:,}; name another --temp")
        raw = Path(folder, "raw.jsonl")
        write_rows(raw, rows)
        command = [DPO_DATA, "convert", "hh-rlhf", "--input", str(raw), "--output", f"{folder}/prepared"]
        elapsed_s, peak = sampled_peak([*command, "--workers", str(workers)], interval_s)
        gib = [peak[kind] / 2**30 for kind in ("Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")]
        verdict = "met" if gib[0] < TARGET_GIB else "NOT met"
        size_gib = raw.stat().st_size / 2**30
    return [f"{rows:,}", f"{size_gib:.2f}", *(f"{value:.2f}" for value in gib), verdict, f"{rows / elapsed_s:,.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000, 2_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between samples")
    parser.add_argument("--temp", type=Path, help="where to write; default: the system's temporary folder")
    options = parser.parse_args()

    facts = machine_facts()
    lines = [measure(rows, options.workers, options.interval, options.temp) for rows in options.rows]
    print("# Memory of convert\n", *facts, "", sep="\n")
    print(
        f"`dpo-data convert hh-rlhf --workers {options.workers}`: the maximum sum of PSS over its processes, ", end=""
    )
    print(f"sampled every {options.interval} s, and its parts. Target: under {TARGET_GIB} GiB.\n")
    columns = ["rows", "raw GiB", "peak PSS GiB", "anonymous", "mapped files", "shared memory", "target", "rows/s"]
    print(table(columns, lines))


if __name__ == "__main__":
    main()
