"""Fault corpus: planted faults of every code that `validate --deep` finds, and its false alarms on clean rows.

    python benchmarks/faults.py [--faults 10000] [--seed 6]

tests/helpers/fault_corpus.py makes the corpus; tests/dpo_data/checks/test_fault_corpus.py runs a small one.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from bench import REPOSITORY, RESULTS, machine_facts, table, versions

from dpo_data.checks import CHECKS
from dpo_data.errors import ROW_ERRORS

sys.path.append(str(REPOSITORY / "tests" / "helpers"))
from fault_corpus import Result, run


def counts(result: Result, code: str) -> list[int]:
    """Return planted, found, lost, false alarms, and findings at other faults."""
    planted, found = result.planted[code], result.found[code]
    return [planted, found, planted - found, len(result.false[code]), result.at_others[code]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--output", type=Path, default=RESULTS / "fault_corpus_202611.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), faults=options.faults, seed=options.seed)
    by_code = {code: counts(result, code) for code in (*ROW_ERRORS, *CHECKS)}
    total = [sum(column) for column in zip(*by_code.values(), strict=True)]
    rows = [[code, *(f"{number:,}" for number in numbers)] for code, numbers in by_code.items()]
    rows.append(["**all**", *(f"**{number:,}**" for number in total)])
    lines = [
        "# Fault corpus",
        "",
        *machine_facts(),
        f"- {versions(('datasketch', 'py3langid', 'rapidfuzz'))}",
        "",
        f"{result.clean:,} clean rows and {total[0]:,} faults over {len(by_code)} codes. Found: reported under its",
        "code with its file:row. False: clean rows reported. At other faults: rows with another planted fault.",
        "",
        table(["code", "planted", "found", "lost", "false", "at other faults"], rows),
        "",
    ]
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))
    for code, origin in result.lost[:20]:
        print("lost:", code, origin)


if __name__ == "__main__":
    main()
