"""Conversion rate of three sources with other layouts, compared with hh-rlhf: rows and pairs per second of CPU time.

    python benchmarks/convert_sources.py [--rows 20000] [--repeats 3]

The rows are generated, with replies of 60 words everywhere: nectar has seven ranked answers per row, helpsteer2 one
response per row and two rows per pair, openai-preference messages and tools in conversational form. One process,
interleaved runs, medians.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import machine_facts, results_file, table, versions

from dpo_data import convert

WORDS = "the of water answer because light a maybe seven house never under green and often small river to".split()  # noqa: SIM905


def text(source: random.Random, words: int) -> str:
    return " ".join(source.choices(WORDS, k=words)) + "."


def hh_rlhf(source: random.Random, row: int) -> Iterator[dict[str, Any]]:
    prompt = f"\n\nHuman: {row} {text(source, 60)}\n\nAssistant: {text(source, 40)}\n\nHuman: And?\n\nAssistant:"
    yield {"chosen": f"{prompt} {text(source, 60)}", "rejected": f"{prompt} {text(source, 60)}"}


def nectar(source: random.Random, row: int) -> Iterator[dict[str, Any]]:
    answers = [{"answer": text(source, 60), "model": "m", "rank": float(rank)} for rank in range(1, 8)]
    prompt = f"\n\nHuman: {row} {text(source, 100)}\n\nAssistant: "
    yield {"prompt": prompt, "answers": answers, "turns": 1, "num_responses": 7, "source": ["x"], "good_natured": True}


def helpsteer2(source: random.Random, row: int) -> Iterator[dict[str, Any]]:
    if row % 2:
        return
    prompt = f"{row} {text(source, 100)}"
    for helpfulness in (4, 1):
        yield {"prompt": prompt, "response": text(source, 60), "helpfulness": helpfulness, "correctness": 3}


def openai_preference(source: random.Random, row: int) -> Iterator[dict[str, Any]]:
    yield {
        "input": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": f"{row} {text(source, 60)}"},
                {"role": "assistant", "content": text(source, 40)},
                {"role": "user", "content": "And?"},
            ],
            "tools": [{"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}],
            "parallel_tool_calls": True,
        },
        "preferred_output": [{"role": "assistant", "content": text(source, 60)}],
        "non_preferred_output": [{"role": "assistant", "content": text(source, 60)}],
    }


MAKERS: dict[str, tuple[Callable[[random.Random, int], Iterator[dict[str, Any]]], dict[str, Any]]] = {
    "hh-rlhf": (hh_rlhf, {}),
    "nectar": (nectar, {}),
    "nectar, all 21 pairs": (nectar, {"pairing": "all"}),
    "helpsteer2": (helpsteer2, {}),
    "openai-preference": (openai_preference, {"form": "conversational"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=results_file("convert-sources"))
    options = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in MAKERS}
    pairs: dict[str, int] = {}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "rows"
        folder.mkdir()
        for name, (make, _) in MAKERS.items():
            source = random.Random(5)
            lines = [json.dumps(row) for number in range(options.rows) for row in make(source, number)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
            sizes[name] = (folder / f"{name}.jsonl").stat().st_size / len(lines)
        for _ in range(options.repeats):
            for name, (_, arguments) in MAKERS.items():
                start = time.process_time()
                manifest = convert(
                    name.partition(",")[0],
                    [folder / f"{name}.jsonl"],
                    output=Path(scratch) / "out",
                    overwrite=True,
                    **arguments,
                )
                times[name].append(time.process_time() - start)
                pairs[name] = manifest.pairs
    rows = []
    for name, values in times.items():
        seconds = statistics.median(values)
        rate = f"{options.rows / seconds:,.0f}"
        cost = f"{seconds / options.rows * 1e6:,.0f} ({min(values) / options.rows * 1e6:,.0f} at best)"
        rows.append([name, f"{sizes[name]:,.0f}", rate, f"{pairs[name] / seconds:,.0f}", cost])
    header = ["source", "bytes a row", "rows/s", "pairs/s", "microseconds of CPU a row"]
    lines = [
        "# Conversion of sources with different layouts",
        "",
        *machine_facts(),
        f"- {versions(('pyarrow', 'pydantic'))}; {options.rows:,} generated rows each, {options.repeats} repeats",
        "- rates are per second of CPU time in one process, reading, checks and Arrow writing included",
        "",
        table(header, rows),
        "",
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
