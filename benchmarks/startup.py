"""Wall time of `dpo-data --help` as a whole process.

python benchmarks/startup.py
"""

import argparse
import statistics

from bench import DPO_DATA, machine_facts, median_and_range, run

TARGET_S = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    run([DPO_DATA, "--help"])
    times_s = [run([DPO_DATA, "--help"])[0] for _ in range(options.repeats)]
    verdict = "met" if statistics.median(times_s) < TARGET_S else "NOT met"
    print("# Startup\n", *machine_facts(), "", sep="\n")
    print(f"`dpo-data --help`, {options.repeats} whole processes after a discarded one: ", end="")
    print(f"{median_and_range(times_s, 3)} s, median (min to max). Target under {TARGET_S} s: {verdict}.")


if __name__ == "__main__":
    main()
