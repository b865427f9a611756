"""Campaign: kills, damage and broken inputs, and what the commands make of them.

    python benchmarks/campaign/run.py [--seed 1 2] [--scale 1.0] [--minutes 5] [--output FILE]

Every trial draws from the seed. A fault is a traceback, a crash, a hang, or a silent use of damaged data; each is
printed with the seed and number of its trial, and the exit code is 1 if there is any.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ |= {"DPO_DATA_TORCH": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tests" / "helpers")]

import transformers  # noqa: E402, F401  # once, and not in each child
from bench import RESULTS, machine_facts, table  # noqa: E402
from damage import damage_trials  # noqa: E402
from fuzz import fuzz_trials  # noqa: E402
from kills import kill_trials  # noqa: E402
from world import make_world  # noqa: E402

import dpo_data.cli.app  # noqa: E402, F401
import dpo_train.run.train  # noqa: E402, F401

COLUMNS = ["trials", "found", "harmless", "silent", "unnamed", "traceback", "crash", "hang"]
FAULTS = {"silent", "unnamed", "traceback", "crash", "hang"}
#: Trials of each part at scale 1.
TRIALS = {"damage": 260, "kills": 60, "fuzz": 4000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--scale", type=float, default=1.0, help="trials, as a multiple of a run of minutes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial of a part after this time")
    parser.add_argument("--parts", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--output", type=Path, default=None, help=f"write a table there, as in {RESULTS}")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    started = time.monotonic()
    counts: dict[str, Counter[str]] = {}
    faults: list[str] = []
    parts = {"damage": damage_trials, "kills": kill_trials, "fuzz": fuzz_trials}
    for seed in options.seed:
        with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
            world = make_world(Path(scratch), seed)
            for part in options.parts:
                rng = random.Random(f"{seed} {part}")
                deadline = time.monotonic() + 60 * options.minutes
                for what, outcome, details in parts[part](world, rng, int(TRIALS[part] * options.scale)):
                    counts.setdefault(what, Counter()).update(["trials", outcome])
                    if outcome in FAULTS:
                        faults.append(f"seed {seed}, {what}: {outcome}: {details}")
                        print(faults[-1], flush=True)
                    if time.monotonic() > deadline:
                        break
    rows = [[what, *(f"{of_part[column]:,}" for column in COLUMNS)] for what, of_part in counts.items()]
    total = sum(counts.values(), Counter[str]())
    rows.append(["**all**", *(f"**{total[column]:,}**" for column in COLUMNS)])
    lines = [
        "# Campaign: kills, damage and broken inputs",
        "",
        *machine_facts(),
        f"- `python benchmarks/campaign/run.py --seed {' '.join(map(str, options.seed))} --scale {options.scale:g}`, "
        f"no trial of a part started after {options.minutes:g} minutes, {time.monotonic() - started:.0f} s",
        "",
        "Found: refused, reported or repaired, and the file was named; or a killed run whose repetition gave the same",
        "bytes; or a broken input that was refused, or whose rows are accounted for. Harmless: the command does not",
        "read what was damaged, and its result is that of whole files. Unnamed: refused without the file's name.",
        "",
        table(["what", *COLUMNS], rows),
        "",
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
