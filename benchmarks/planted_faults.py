"""Planted faults in five languages: found and false by code, for `validate --deep`, from `planted/`.

    python benchmarks/planted_faults.py [--per-code 240] [--clean 10000] [--seeds 17 18] [--real "$HH_RLHF"]

The first seed uses the texts of development.toml, by which the checks were improved; the second those of held_out.toml.
Clean rows of `--real` count toward the false alarms as well, apart.
"""

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import RESULTS, machine_facts, table, versions
from planted.clean import CLEAN
from planted.faults import FAULTS, IN_TEST
from planted.writer import Writer

from dpo_data.checks import CHECKS
from dpo_data.inspect.validation import validate

LIBRARIES = ("babel", "datasketch", "ftfy", "phonenumbers", "py3langid", "pyspellchecker", "rapidfuzz")


@dataclass
class Rates:
    """Counts by code.

    Attributes:
        planted, found: number of faults.
        false: number of clean rows reported.
        clean: number of clean rows.
        lost: code -> origins and rows of faults that were not found.
        alarms: code -> origins and rows of clean rows that were reported.
    """

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: Counter[str] = field(default_factory=Counter)
    clean: int = 0
    lost: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    alarms: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)


def write_corpus(folder: Path, pool: str, seed: int, per_code: int, clean: int) -> dict[str, tuple[str | None, Any]]:
    """Write the rows in random order and return origin -> code, or None if it is clean, and the row."""
    w = Writer(pool, seed)
    groups: list[tuple[str | None, list[Any]]] = []
    for code, plant in FAULTS.items():
        count = per_code // 8 if code == "one_response_for_many_prompts" else per_code
        groups += [(code, list(plant(w))) for _ in range(count)]
    groups += [(None, [CLEAN[number % len(CLEAN)](w)]) for number in range(clean)]
    turns = [index for index, (_, rows) in enumerate(groups) for _ in rows]
    w.random.shuffle(turns)
    written: Counter[int] = Counter()
    lines: dict[str, list[str]] = {"train": [], "test": []}
    rows_of: dict[str, tuple[str | None, Any]] = {}
    for index in turns:
        code, rows = groups[index]
        row = rows[written[index]]
        is_last = written[index] == len(rows) - 1
        written[index] += 1
        split = "test" if code in IN_TEST and is_last else "train"
        lines[split].append(json.dumps(row))
        rows_of[f"rows/{split}.jsonl:{len(lines[split])}"] = (
            code if is_last else None if len(rows) == 1 else "part",
            row,
        )
    (folder / "rows").mkdir()
    for split, of_split in lines.items():
        (folder / "rows" / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in of_split))
    evaluation = [item for texts in w.texts.values() for item in texts["evaluation"]]
    (folder / "evaluation.txt").write_text("".join(f"{item}\n" for item in evaluation))
    return rows_of


def origins(path: Path, **options: Any) -> dict[str, set[str]]:
    """Return code -> origins of the rows that `validate --deep` reports."""
    report = validate(path, deep=True, max_examples=10**9, workers=2, **options)
    return {
        code: {example.split(": ", 1)[0] for example in finding.examples} for code, finding in report.findings.items()
    }


def measure(pool: str, seed: int, per_code: int, clean: int) -> Rates:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows_of = write_corpus(folder, pool, seed, per_code, clean)
        reported = origins(folder / "rows", against=[folder / "evaluation.txt"])
    rates = Rates(clean=sum(code is None for code, _ in rows_of.values()))
    for origin, (code, row) in rows_of.items():
        if code in FAULTS:
            rates.planted[code] += 1
            if origin in reported.get(code, ()):
                rates.found[code] += 1
            else:
                rates.lost.setdefault(code, []).append((origin, row))
    for code, of_code in reported.items():
        false = sorted(origin for origin in of_code if rows_of[origin][0] is None)
        rates.false[code] = len(false)
        rates.alarms[code] = [(origin, rows_of[origin][1]) for origin in false]
    return rates


def percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-code", type=int, default=240)
    parser.add_argument("--clean", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs=2, default=[17, 18])
    parser.add_argument("--pools", nargs="+", default=["development", "held_out"])
    parser.add_argument("--real", type=Path, help="clean rows of hh-rlhf")
    parser.add_argument("--show", help="code whose lost faults and false alarms are printed as JSON lines")
    parser.add_argument("--output", type=Path, help="results file to write")
    options = parser.parse_args()
    of_pool = {
        pool: measure(pool, seed, options.per_code, options.clean)
        for pool, seed in zip(options.pools, options.seeds, strict=False)
    }
    real = {code: len(rows) for code, rows in origins(options.real, source="hh-rlhf").items()} if options.real else {}
    columns = [f"{pool}: {what}" for pool in of_pool for what in ("planted", "found", "false")]
    rows = []
    for code in FAULTS:
        cells = [code]
        for rates in of_pool.values():
            cells += [
                str(rates.planted[code]),
                percent(rates.found[code], rates.planted[code]),
                percent(rates.false[code], rates.clean),
            ]
        rows.append([*cells, str(real.get(code, 0))])
    total = ["**all**"]
    for rates in of_pool.values():
        total += [
            str(rates.planted.total()),
            percent(rates.found.total(), rates.planted.total()),
            percent(rates.false.total(), rates.clean),
        ]
    rows.append([*total, str(sum(real.values()))])
    others = {code: rates.false[code] for rates in of_pool.values() for code in rates.false if code not in FAULTS}
    lines = [
        "# Planted faults in five languages",
        "",
        *machine_facts(),
        f"- {versions(LIBRARIES)}",
        "",
        f"{options.per_code} faults per code; clean: {', '.join(f'{rates.clean:,}' for rates in of_pool.values())}.",
        "Found: reported under its code with its file:row. False: clean rows reported. Real: rows of hh-rlhf",
        "reported, whether or not that is correct.",
        "",
        table(["code", *columns, "real"], rows),
        "",
        *([f"Clean rows reported under other codes: {others}.", ""] if others else []),
    ]
    print("\n".join(lines))
    if options.output:
        (RESULTS / options.output).write_text("\n".join(lines))
    for pool, rates in of_pool.items():
        for code in [options.show] if options.show in CHECKS else []:
            for kind, examples in (("lost", rates.lost.get(code, [])), ("false", rates.alarms.get(code, []))):
                for origin, row in examples[:25]:
                    print(pool, kind, origin, json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
