"""Fault corpus: clean generated data with every defect planted in it, and the findings of `validate --deep`.

A fault is a code and an origin; other rows that it needs, such as the first of two duplicates, are clean rows. A check
without a fault of its own in `fault_scenes` is planted by its example, once. benchmarks/faults.py runs a large corpus.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fault_scenes import EVALUATION_TEXTS, SCENES, Scene, evaluation_text
from fault_texts import Row, Writer

from dpo_data.checks import CHECKS
from dpo_data.checks.check import DatasetCheck
from dpo_data.inspect.validation import validate

#: Codes of the faults whose last row is in the test split; all other rows are in train.
IN_TEST = {code for code, check in CHECKS.items() if isinstance(check, DatasetCheck) and "test" in check.example}


@dataclass
class Result:
    """What `validate` found of the planted faults.

    Attributes:
        planted, found: code -> number of faults.
        lost: (code, origin) of faults that were not found.
        false: code -> origins of clean rows that were reported.
        at_others: code -> number of rows reported that were planted for another code only.
        clean: number of clean rows.
    """

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    lost: list[tuple[str, str]] = field(default_factory=list)
    false: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    at_others: Counter[str] = field(default_factory=Counter)
    clean: int = 0


@dataclass(frozen=True)
class Group:
    """Rows of one fault, or clean rows.

    Attributes:
        code: of the fault; None for clean rows.
        rows: in reading order.
        faulty: positions of the rows that must be found.
        is_example: True if all rows are part of the example of a check, so that none of them counts as clean.
    """

    code: str | None
    rows: list[Row | str]
    faulty: list[int] = field(default_factory=list)
    is_example: bool = False


@dataclass
class Planted:
    """Origins in one dataset that was written.

    Attributes:
        faults: code -> origins that must be found.
        others: origins of further rows of examples.
        clean: number of clean rows.
    """

    faults: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    others: set[str] = field(default_factory=set)
    clean: int = 0


def examples(codes: set[str]) -> Iterator[Group]:
    """Yield the examples of the checks without a fault among `codes`."""
    for code, check in CHECKS.items():
        if code not in codes:
            dataset = check.example if isinstance(check, DatasetCheck) else {"train": (check.example,)}
            rows: list[Row | str] = [pair.model_dump(exclude_none=True) for pairs in dataset.values() for pair in pairs]
            yield Group(code, rows, [len(rows) - 1], is_example=True)


def groups(scene: Scene, w: Writer, faults: int, clean: int) -> Iterator[Group]:
    """Yield at least `faults` faults of each code, then `clean` groups of clean rows."""
    for code, plant in scene.faults.items():
        planted = 0
        while planted < faults:
            rows, positions = plant(w)
            planted += len(positions)
            yield Group(code, rows, positions)
    for _ in range(clean):
        yield Group(None, list(scene.clean(w)))


def write_dataset(folder: Path, waiting: list[Group], w: Writer, *, adjacent: bool) -> Planted:
    """Write the rows of all groups in random order; the rows of one group keep their order."""
    turns = [index for index, group in enumerate(waiting) for _ in (group.rows[:1] if adjacent else group.rows)]
    w.random.shuffle(turns)
    lines: dict[str, list[str]] = {"train": [], "test": []}
    planted = Planted()
    written = Counter[int]()
    for index in turns:
        group = waiting[index]
        for position in range(len(group.rows)) if adjacent else [written[index]]:
            split = "test" if group.code in IN_TEST and position == len(group.rows) - 1 else "train"
            row = group.rows[position]
            lines[split].append(row if isinstance(row, str) else json.dumps(row))
            origin = f"{folder.name}/{split}.jsonl:{len(lines[split])}"
            if position in group.faulty:
                planted.faults[str(group.code)].add(origin)
            elif group.is_example:
                planted.others.add(origin)
            else:
                planted.clean += 1
        written[index] += 1
    folder.mkdir(parents=True)
    for split, of_split in lines.items():
        if of_split:
            (folder / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in of_split))
    return planted


def run(
    folder: Path,
    *,
    faults: int,
    clean_share: float = 2.0,
    seed: int = 6,
    scenes: Mapping[str, Scene] = SCENES,
) -> Result:
    """Plant about `faults` faults, evenly over all codes, and count the findings of `validate`."""
    codes = {code for scene in scenes.values() for code in scene.faults}
    per_code = -(-faults // max(1, len(codes)))
    evaluation = folder / "evaluation.txt"
    evaluation.write_text("".join(f"{evaluation_text(number)}\n" for number in range(1, EVALUATION_TEXTS + 1)))
    result = Result()
    for name, scene in scenes.items():
        w = Writer(seed)
        waiting = list(groups(scene, w, per_code, round(per_code * clean_share * len(scene.faults))))
        if name == "pairs":
            waiting += examples(codes)
        planted = write_dataset(folder / name, waiting, w, adjacent=scene.adjacent)
        result.clean += planted.clean
        report = validate(folder / name, deep=True, against=[evaluation], max_examples=10**9, **scene.options)
        faulty = planted.others.union(*planted.faults.values())
        for code, finding in report.findings.items():
            origins = {example.split(": ", 1)[0] for example in finding.examples}
            expected = planted.faults.get(code, set())
            result.found[code] += len(origins & expected)
            result.at_others[code] += len((origins & faulty) - expected)
            result.false[code] += sorted(origins - faulty)
        for code, expected in planted.faults.items():
            result.planted[code] += len(expected)
            found = report.findings[code].examples if code in report.findings else []
            lost = expected - {example.split(": ", 1)[0] for example in found}
            result.lost += [(code, origin) for origin in sorted(lost)]
    return result
