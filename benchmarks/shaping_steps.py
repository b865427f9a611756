"""Rows per second and peak memory of each shaping step on generated pairs.

    python benchmarks/shaping_steps.py [PAIRS] [FOLDER]

Each step runs in a process of its own with one worker; seconds are those of its CPU time, so that a busy machine does
not change them much.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

STEPS = {
    "mix": "mix(['{d}/in', 'half={d}/in:0.5'], output='{o}', overwrite=True)",
    "filter": "filter('{d}/in', output='{o}', where='len(chosen) < 400 and margin >= 1', overwrite=True)",
    "filter --drop-findings": "filter('{d}/in', output='{o}', drop_findings=['bad_characters'], overwrite=True)",
    "dedup": "dedup('{d}/in', output='{o}', overwrite=True)",
    "dedup --contradictions": "dedup('{d}/in', output='{o}', contradictions='drop', per_prompt=2, overwrite=True)",
    "dedup --near": "dedup('{d}/in', output='{o}', near=0.8, overwrite=True)",
    "split": "split('{d}/in', output='{o}', test=0.05, overwrite=True)",
    "split --by near-prompt": "split('{d}/in', output='{o}', test=0.05, by='near-prompt', overwrite=True)",
    "sample": "sample_pairs('{d}/in', output='{o}', size=0.05, overwrite=True)",
    "decontaminate": "decontaminate('{d}/in', output='{o}', against=['{d}/eval.txt'], overwrite=True)",
    "redact": "redact('{d}/in', output='{o}', overwrite=True)",
    "apply": "apply('{d}/decisions.jsonl', '{d}/in', output='{o}', overwrite=True)",
}


def generate(folder: Path, pairs: int) -> None:
    """Write pairs like hh-rlhf's in length, with some copies, and convert them."""
    from dpo_data import convert, open_prepared

    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(5000)]

    def text(count: int) -> str:
        return " ".join(draw.choices(words, k=count))

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.jsonl").open("w") as file:
        row = {}
        for number in range(pairs):
            if number % 20:
                row = {"prompt": text(80), "chosen": " " + text(40), "rejected": " " + text(40)}
                row |= {"chosen_score": draw.random() * 5, "rejected_score": 0.0}
            file.write(json.dumps(row) + "\n")
    (folder / "eval.txt").write_text("\n".join(text(30) for _ in range(1000)))
    convert("pairs", [folder / "train.jsonl"], output=folder / "in", form="text", test_fraction=0.05, overwrite=True)
    ids = next(open_prepared(folder / "in").batches("train")).column("id").to_pylist()[:500]
    (folder / "decisions.jsonl").write_text("\n".join(json.dumps({"id": id_, "action": "flip"}) for id_ in ids))


def measure(code: str) -> tuple[float, float, float]:
    """Return wall seconds, CPU seconds and peak MB of a step in a process of its own, imports apart."""
    names = "mix, filter, dedup, split, sample_pairs, decontaminate, redact, apply"
    script = (
        f"from dpo_data import {names}\nimport time\nfrom resource import RUSAGE_SELF, getrusage\n"
        f"wall, cpu = time.time(), time.process_time()\n{code}\n"
        "print(time.time() - wall, time.process_time() - cpu, getrusage(RUSAGE_SELF).ru_maxrss / 1024)"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    wall, cpu, peak = map(float, output.split())
    return wall, cpu, peak


if __name__ == "__main__":
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else "/tmp/dpo-data-shaping")
    started = time.time()
    generate(folder, pairs)
    print(f"{pairs:,} pairs generated and converted in {time.time() - started:.0f} s", flush=True)
    print("| step | rows/s (CPU) | wall s | peak MB |\n| --- | --- | --- | --- |")
    for name, code in STEPS.items():
        wall, cpu, peak = measure(code.format(d=folder, o=folder / "out"))
        print(f"| {name} | {pairs / cpu:,.0f} | {wall:.1f} | {peak:.0f} |", flush=True)
