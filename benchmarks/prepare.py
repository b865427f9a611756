"""Preparation speed: raw hh-rlhf rows to cached tokens, compared with the tokenizer library alone, TRL, convmerge, an
earlier commit, and one worker.

    python benchmarks/prepare.py --rows-file "$HH_RLHF" --tokenizer FOLDER --peers /tmp/peers --copies 130 --repeats 3

Every measurement runs in a process of its own, one at a time; a repeat is one round through all of them, so that a slow
minute of the machine affects each. The first round, on a single copy of the rows, is discarded: it warms the disk
cache. Ratios are taken within each round. README.md explains the peers' environment.
"""

import argparse
import gzip
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from bench import DPO_DATA, REPOSITORY, machine_facts, median_and_range, results_file, run, table, versions

HERE = Path(__file__).resolve().parent
ASSISTANT = "\n\nAssistant:"
WORKERS = 2
MAX_LENGTH = 512
MAX_PROMPT_LENGTH = 128
TRUNCATION = ["--max-length", str(MAX_LENGTH), "--max-prompt-length", str(MAX_PROMPT_LENGTH)]
PEER_VERSIONS = """
from importlib.metadata import version
names = ["trl", "convmerge", "transformers", "datasets", "tokenizers", "torch"]
print(", ".join(f"{name} {version(name)}" for name in names))
"""

LABELS = {
    "limit": "a. limit: `encode_batch_fast`, each prompt once",
    "ours": "b. ours: raw file to token cache, in process",
    "ours less load": "b. the same, less one tokenizer load",
    "ours command": "b. the same, whole process `dpo-data convert --tokenizer`",
    "trl": "c. TRL: split pairs to token ids, `dataset_num_proc=2`",
    "ours convert command": "d. ours: whole process `dpo-data convert`",
    "ours convert one worker": "d. the same with `--workers 1`",
    "before convert command": "d. the same as `ours` at the earlier commit",
    "convmerge": "d. convmerge: whole process `convmerge convert`",
    "ours convert": "d. ours: conversion in process",
}
RATIOS = [
    ("b whole process / a", "ours command", "limit", 4.0),
    ("b whole process / c", "ours command", "trl", 12.0),
    ("d / convmerge", "ours convert command", "convmerge", 3.0),
    ("d / d at the earlier commit", "ours convert command", "before convert command", 2.0),
    ("d / d with one worker", "ours convert command", "ours convert one worker", 1.8),
    ("b in process / a", "ours", "limit", None),
    ("b in process, less the tokenizer load / a", "ours less load", "limit", None),
    ("b in process / c", "ours", "trl", None),
    ("d in process / convmerge", "ours convert", "convmerge", None),
]
INPUT_NOTE = (
    "The first Human turn of every copy ends in ` (copy k)` on both sides, so no prompt and no pair repeats, and "
    "neither a duplicate check nor a cache makes copies cheaper; the texts of the replies do repeat. "
    "TRL receives prompt, chosen and rejected already split and read into Arrow before the clock starts."
)


def raw_copies(rows_file: Path, copies: int) -> list[dict[str, str]]:
    """Return the rows, `copies` times; the first Human turn of every copy ends in its number, on both sides."""
    with gzip.open(rows_file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        {side: text.replace(ASSISTANT, f" (copy {copy}){ASSISTANT}", 1) for side, text in row.items()}
        for copy in range(copies)
        for row in rows
    ]


def split_pair(row: dict[str, str]) -> dict[str, str]:
    """Return prompt, chosen and rejected, split after the last `Assistant:` that both transcripts share."""
    # These are texts, not paths: the common prefix by character is intended.
    shared = os.path.commonprefix([row["chosen"], row["rejected"]])  # noqa: RUF071
    end = shared.rindex(ASSISTANT) + len(ASSISTANT)
    return {"prompt": shared[:end], "chosen": row["chosen"][end:], "rejected": row["rejected"][end:]}


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_inputs(folder: Path, rows: list[dict[str, str]]) -> None:
    folder.mkdir()
    write_jsonl(folder / "raw.jsonl", rows)
    write_jsonl(folder / "pairs.jsonl", [split_pair(row) for row in rows])


class Bench:
    """The measurements, each over one folder of inputs with an empty scratch folder: rows per second by label."""

    def __init__(self, tokenizer: Path, peers: Path, temp: Path):
        self.tokenizer = str(tokenizer.resolve())
        self.peers = peers / "bin"
        self.scratch = temp / "scratch"
        self.prepared = self.scratch / "prepared"
        self.before = temp / "before"
        self.warm_up = temp / "once" / "raw.jsonl"
        self.environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(self.scratch / "cache")}
        self.stages: list[dict[str, float]] = []
        self.kept: dict[str, int] = {}

    def run(self, *command: object, cwd: Path | None = None) -> tuple[float, str]:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        return run([str(part) for part in command], env=self.environment, cwd=cwd)

    def run_convert(self, inputs: Path, *options: object, workers: int = WORKERS, before: bool = False) -> float:
        # `python -m` takes the package of the working folder.
        program, cwd = ([sys.executable, "-m", "dpo_data"], self.before) if before else ([DPO_DATA], None)
        command = [*program, "convert", "hh-rlhf", "--input", inputs / "raw.jsonl", "--output", self.prepared]
        elapsed_s, _ = self.run(*command, "--workers", workers, *options, cwd=cwd)
        return elapsed_s

    def run_ours(self, inputs: Path, *flags: str) -> dict:
        command = [sys.executable, HERE / "measure" / "ours.py", "--raw", inputs / "raw.jsonl"]
        command += ["--warm-up", self.warm_up, "--tokenizer", self.tokenizer, "--scratch", self.scratch]
        _, answer = self.run(*command, "--workers", WORKERS, *TRUNCATION, *flags)
        return json.loads(answer.splitlines()[-1])

    def kept_by_ours(self, rows: int) -> int:
        """Return the rows that were not quarantined, the only ones that are tokenized."""
        self.kept["ours"] = rows - sum(count_lines(file) for file in (self.prepared / "quarantine").glob("*.jsonl"))
        return self.kept["ours"]

    def limit(self, inputs: Path, rows: int) -> dict[str, float]:
        script = HERE / "measure" / "encode_limit.py"
        _, answer = self.run(sys.executable, script, "--pairs", inputs / "pairs.jsonl", "--tokenizer", self.tokenizer)
        return {"limit": rows / json.loads(answer)["seconds"]}

    def ours(self, inputs: Path, rows: int) -> dict[str, float]:
        stages = self.run_ours(inputs)
        self.stages.append(stages)
        elapsed_s = stages["convert"] + stages["tokenize"]
        kept = self.kept_by_ours(rows)
        return {
            "ours": kept / elapsed_s,
            "ours less load": kept / (elapsed_s - stages["tokenizer load"]),
            "ours convert": rows / stages["convert"],
        }

    def ours_command(self, inputs: Path, rows: int) -> dict[str, float]:
        elapsed_s = self.run_convert(
            inputs, "--tokenizer", self.tokenizer, *TRUNCATION, "--truncation-mode", "keep_end"
        )
        return {"ours command": self.kept_by_ours(rows) / elapsed_s}

    def trl(self, inputs: Path, rows: int) -> dict[str, float]:
        command = [self.peers / "python", HERE / "peers" / "trl_prepare.py", "--pairs", inputs / "pairs.jsonl"]
        command += ["--tokenizer", self.tokenizer, "--scratch", self.scratch, "--workers", WORKERS]
        _, answer = self.run(*command, "--max-length", MAX_LENGTH)
        return {"trl": rows / json.loads(answer.splitlines()[-1])["seconds"]}

    def ours_convert_command(self, inputs: Path, rows: int) -> dict[str, float]:
        return {"ours convert command": rows / self.run_convert(inputs)}

    def ours_convert_one_worker(self, inputs: Path, rows: int) -> dict[str, float]:
        return {"ours convert one worker": rows / self.run_convert(inputs, workers=1)}

    def before_convert_command(self, inputs: Path, rows: int) -> dict[str, float]:
        return {"before convert command": rows / self.run_convert(inputs, before=True)}

    def convmerge(self, inputs: Path, rows: int) -> dict[str, float]:
        output = self.scratch / "convmerge.jsonl"
        command = [self.peers / "convmerge", "convert", "--input", inputs / "raw.jsonl", "--output", output]
        elapsed_s, _ = self.run(*command, "--from", "auto", "--format", "preference", "--workers", WORKERS)
        self.kept["convmerge"] = count_lines(output)
        return {"convmerge": rows / elapsed_s}


MEASUREMENTS = {
    "limit": Bench.limit,
    "ours": Bench.ours,
    "ours-command": Bench.ours_command,
    "trl": Bench.trl,
    "ours-convert-command": Bench.ours_convert_command,
    "ours-convert-one-worker": Bench.ours_convert_one_worker,
    "before-convert-command": Bench.before_convert_command,
    "convmerge": Bench.convmerge,
}


def extract_commit(commit: str, folder: Path) -> None:
    """Write the package of an earlier commit to a folder."""
    archive = subprocess.run(
        ["git", "archive", commit, "dpo_data"], cwd=REPOSITORY, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


def count_lines(file: Path) -> int:
    with file.open("rb") as lines:
        return sum(1 for _ in lines)


def one_round(bench: Bench, names: list[str], inputs: Path, rows: int) -> dict[str, float]:
    rates: dict[str, float] = {}
    for name in names:
        rates |= MEASUREMENTS[name](bench, inputs, rows)
    return rates


def ratio_row(name: str, over: str, under: str, rounds: list[dict[str, float]], target: float | None) -> list[str]:
    ratios = [rates[over] / rates[under] for rates in rounds]
    verdict = "" if target is None else f"{target:.2f}, {'met' if statistics.median(ratios) >= target else 'NOT met'}"
    return [name, median_and_range(ratios, 2), verdict]


def stage_rows(stages: list[dict[str, float]], limit_s: float | None) -> list[list[str]]:
    rows = [[name, median_and_range([stage[name] for stage in stages], 2)] for name in stages[0]]
    if limit_s is not None:
        rows.append(["(encoding alone, from a)", f"{limit_s:.2f}"])
    return rows


def report(
    options: argparse.Namespace, bench: Bench, rows: int, facts: list[str], rounds: list[dict[str, float]]
) -> str:
    measured = rounds[0].keys()
    rates = [
        [label, median_and_range([rates[key] for rates in rounds], 0)]
        for key, label in LABELS.items()
        if key in measured
    ]
    ratios = [
        ratio_row(name, over, under, rounds, target)
        for name, over, under, target in RATIOS
        if over in measured and under in measured
    ]
    kept = ", ".join(f"{name} {count:,}" for name, count in bench.kept.items()) or "not counted"
    parts = [
        "# Preparation speed",
        "\n".join(facts),
        f"{rows:,} rows: `{options.rows_file.name}` {options.copies} times. {INPUT_NOTE}",
        f"Rows kept: {kept}. b counts kept rows only; a and c count every row, d counts rows read.",
        f"{len(rounds)} interleaved rounds after a discarded one; median (min to max); ratios within each round.",
        table(["measurement", "rows/s"], rates),
        table(["ratio", "median (min to max)", "target"], ratios),
    ]
    if bench.stages:
        limit_s = rows / statistics.median([rates["limit"] for rates in rounds]) if "limit" in measured else None
        parts += [
            "## Stages",
            "One process. `AutoTokenizer.from_pretrained` is timed separately, warm; `tokenize` loads its own.",
            table(["stage", "seconds"], stage_rows(bench.stages, limit_s)),
        ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows-file", type=Path, required=True, help="hh-rlhf .jsonl.gz")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a real tokenizer, with tokenizer.json")
    parser.add_argument("--peers", type=Path, default=Path("/tmp/peers"), help="the peers' virtual environment")
    parser.add_argument("--before", default="b6bece4", metavar="COMMIT", help="the earlier commit to compare with")
    parser.add_argument("--copies", type=int, default=20, help="how many times the rows are written")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--output", type=Path, default=results_file("prepare"))
    options = parser.parse_args()

    peer_versions = "not measured"
    if {"trl", "convmerge"} & set(options.only):
        _, peer_versions = run([str(options.peers / "bin" / "python"), "-c", PEER_VERSIONS])
    facts = [
        *machine_facts(),
        f"- ours: {versions(['transformers', 'tokenizers', 'datasets', 'pyarrow', 'pydantic'])}",
        f"- peers: {peer_versions.strip()}",
        f"- tokenizer: {options.tokenizer}",
        f"- earlier commit: {options.before}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        temp = Path(folder)
        once = raw_copies(options.rows_file, 1)
        write_inputs(temp / "once", once)
        write_inputs(temp / "all", raw_copies(options.rows_file, options.copies))
        rows = len(once) * options.copies
        extract_commit(options.before, temp / "before")

        bench = Bench(options.tokenizer, options.peers, temp)
        one_round(bench, options.only, temp / "once", len(once))
        bench.stages.clear()
        rounds = []
        for repeat in range(options.repeats):
            rounds.append(one_round(bench, options.only, temp / "all", rows))
            print(
                f"round {repeat + 1}: {', '.join(f'{key} {rate:,.0f}' for key, rate in rounds[-1].items())}", flush=True
            )
        text = report(options, bench, rows, facts, rounds)
        if "ours" in options.only:
            profile = bench.run_ours(temp / "all", "--profile")["profile"]
            text += f"\n### Profile of one process, workers=1\n\n```\n{profile}```\n"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {options.output}")


if __name__ == "__main__":
    main()
