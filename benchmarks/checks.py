"""Cost of each check on real rows of hh-rlhf, and of all checks in `convert`.

    python benchmarks/checks.py --input "$HH_RLHF" [--before FOLDER]

Each check runs alone over all pairs, best of the repeats; the dataset checks run over the row keys of the rows repeated
with a number in the first turn, so that no prompt repeats. `--before` names a checkout of an earlier commit (a git
worktree): its `convert` and the current one take turns, and the ratio of their medians is the cost of the checks added
between the two.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bench import REPOSITORY, machine_facts, median_and_range, results_file, table, versions

from dpo_data.checks import DATASET_CHECKS, DEEP_DATASET_CHECKS, DEEP_ROW_CHECKS, ROW_CHECKS, RowCheck, run_row_checks
from dpo_data.checks.check import DEEP_ROW_KEY, RowKeys
from dpo_data.checks.contamination import contamination
from dpo_data.checks.near_prompts import NearPrompts
from dpo_data.checks.row_keys import row_keys
from dpo_data.errors import RowError
from dpo_data.inspect.findings import deepened
from dpo_data.inspect.validation import validate
from dpo_data.records import PairKeys, PreferencePair, pair_keys
from dpo_data.sources import load_source
from dpo_data.sources.source import SourceOptions

LIBRARIES = ("datasketch", "ftfy", "phonenumbers", "py3langid", "pyspellchecker", "rapidfuzz", "numpy")
CONVERT = """
import sys, time
from dpo_data import convert
times = []
for _ in range(3):
    start = time.process_time()
    convert("hh-rlhf", [sys.argv[1]], output=sys.argv[2], overwrite=True, max_invalid=1.0)
    times.append(time.process_time() - start)
print(min(times))
"""


def read_rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_pairs(rows: Sequence[dict[str, Any]]) -> list[PreferencePair]:
    source, options = load_source("hh-rlhf"), SourceOptions("text", {}, None)
    pairs = []
    for row in rows:
        try:
            pairs.append(source.adapt(row, options))
        except RowError:
            continue
    return pairs


def best_of(repeats: int, work: Callable[[], Any]) -> float:
    """Return the CPU seconds of the fastest repeat."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def deep_variants() -> list[RowCheck]:
    """Return the checks of `convert` as `validate --deep` runs them where it finds more."""
    return [check for check in deepened(ROW_CHECKS) if check.find_deep is not None and check.severity == "warning"]


def row_costs(pairs: Sequence[PreferencePair], against: Path, repeats: int) -> list[list[str]]:
    """Return a table row for each row check alone, and one for all those of `convert`."""
    rows: list[tuple[str, str, Sequence[RowCheck]]] = [
        *((check.code, "convert", [check]) for check in ROW_CHECKS),
        ("all checks of convert together", "convert", ROW_CHECKS),
        *((f"{check.code}, deep", "--deep", [check]) for check in deep_variants()),
        *((check.code, "--deep", [check]) for check in DEEP_ROW_CHECKS),
        ("contamination (--against 200 texts)", "--against", [contamination([against])]),
    ]

    def work(checks: Sequence[RowCheck]) -> None:
        for pair in pairs:
            run_row_checks(pair, checks)

    table_rows = []
    for code, where, checks in rows:
        seconds = best_of(repeats if where == "convert" else 3, partial(work, checks))
        found = sum(bool(run_row_checks(pair, checks)) for pair in pairs)
        table_rows.append([code, where, *cost(seconds, len(pairs)), f"{found:,}"])
    return table_rows


def cost(seconds: float, rows: int) -> tuple[str, str]:
    return f"{seconds / rows * 1e6:,.2f}", f"{rows / seconds:,.0f}"


def many_keys(rows: int) -> RowKeys:
    """Return keys of `rows` rows with seven per prompt, as sources of ranked responses give."""
    source = np.random.default_rng(3)
    responses = [source.bytes(16) for _ in range(8)]
    keys = []
    for row in range(rows):
        if row % 7 == 0:
            prompt = source.bytes(16)
            responses = sorted(source.bytes(16) for _ in range(8))
        better, worse = responses[row % 7], responses[row % 7 + 1]
        keys.append(PairKeys(prompt, source.bytes(16), source.bytes(16), better, worse))
    table_ = np.zeros(rows, DEEP_ROW_KEY)
    plain = row_keys(keys, 0)
    for name in plain.dtype.names:
        table_[name] = plain[name]
    table_["chosen_characters"] = 100
    for name, of in (("near_prompt", "prompt"), ("normalized_unordered", "unordered"), ("normalized_chosen", "chosen")):
        table_[name] = table_[of]
    return table_


def convert_seconds(checkout: Path, raw: Path, scratch: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(raw), str(scratch / "out")],
        env=os.environ | {"PYTHONPATH": str(checkout)},
        cwd=scratch,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--output", type=Path, default=results_file("checks"))
    options = parser.parse_args()
    facts = machine_facts()
    rows = read_rows(options.input)
    pairs = read_pairs(rows)
    lines = ["# Cost of the checks", "", *facts, f"- {versions(LIBRARIES)}"]
    lines += [
        "",
        f"CPU time in one process on {len(pairs):,} real pairs of hh-rlhf, the best of {options.repeats} repeats",
        "(3 for the slow checks). Each row includes the cost of collecting the texts of a pair.",
        "",
    ]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        against = scratch / "against.txt"
        source = np.random.default_rng(7)
        against.write_text("".join(" ".join(map(str, source.integers(0, 10**6, 30))) + "\n" for _ in range(200)))
        costs = row_costs(pairs, against, options.repeats)
        lines += [table(["row check", "runs in", "microseconds per row", "rows/s", "found"], costs), ""]

        def sketch() -> None:
            near = NearPrompts()
            for pair in pairs:
                near.first_like(pair_keys(pair).prompt, pair.texts[0])

        keys = many_keys(100_000)
        key_rows = [
            [check.code, where, *cost(best_of(3, partial(check.find, keys)), len(keys))]
            for where, checks in (("convert", DATASET_CHECKS), ("--deep", DEEP_DATASET_CHECKS))
            for check in checks
        ]
        key_rows.append(["sketches of the prompts (MinHash, LSH)", "--deep", *cost(best_of(3, sketch), len(pairs))])
        lines += ["Checks over row keys, on 100,000 rows with seven per prompt:", ""]
        lines += [table(["dataset check", "runs in", "microseconds per row", "rows/s"], key_rows), ""]

        raw = scratch / "raw" / "train.jsonl"
        raw.parent.mkdir()
        copied = [
            json.dumps({side: text.replace("\n\nHuman:", f"\n\nHuman: ({copy})", 1) for side, text in row.items()})
            for copy in range(options.copies)
            for row in rows
        ]
        raw.write_text("".join(f"{line}\n" for line in copied))
        whole = []
        for label, given in (("validate", {}), ("validate --deep", {"deep": True})):
            times = []
            for _ in range(3):
                start = time.perf_counter()
                report = validate(options.input, source="hh-rlhf", **given)
                times.append(report.rows_read / (time.perf_counter() - start))
            whole.append([label, median_and_range(times, 0)])
        lines += ["Whole runs on the real rows, raw file to report, one process:", ""]
        lines += [table(["command", "rows/s"], whole), ""]
        if options.before:
            checkouts = {"before": options.before.resolve(), "now": REPOSITORY}
            seconds: dict[str, list[float]] = {name: [] for name in checkouts}
            for turn in range(options.repeats):
                for name in list(checkouts)[:: 1 if turn % 2 else -1]:
                    seconds[name].append(convert_seconds(checkouts[name], raw, scratch))
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            lines += [
                f"`convert` in process, {len(copied):,} rows; the two take turns, and each turn is the best of three:",
                "",
            ]
            speeds = [
                [name, median_and_range([len(copied) / value for value in values], 0)]
                for name, values in seconds.items()
            ]
            lines += [table(["convert", "rows per second of CPU"], speeds), ""]
            lines += [
                f"Speed now / before: {medians['before'] / medians['now']:.3f} by medians, "
                f"{min(seconds['before']) / min(seconds['now']):.3f} by the best runs.",
                "",
            ]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
