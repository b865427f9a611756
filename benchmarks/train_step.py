"""Training speed and memory of dpo-train, compared with TRL 1.16 and with the machine's matrix-multiply rate.

    python benchmarks/train_step.py --model M --data prepared/ --peers /tmp/peers --only 4 16 64
    python benchmarks/train_step.py --model M --data prepared/ --peers /tmp/peers --only rankings alike start curve

Every run is a process of its own in the peers' environment (README.md), one at a time, dpo-train and TRL in turn, on
the same rows in the same order: those of the prepared folder that are not truncated. Tokens, dtype and optimizer are
the same; no gradient checkpointing.

- cold: one epoch; TRL with its defaults (the reference model runs in every step), dpo-train with everything before its
  first step: comparing the two paths, and the reference log-probabilities.
- warm: both with reference log-probabilities computed before the clock starts.
"""

import argparse
import itertools
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from bench import REPOSITORY, machine_facts, results_file, run, table
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
LENGTHS = ["64+64", "256+64", "1024+64", "2048+64", "4096+64", "64+256", "64+1024"]
MEASURED = ("loop_s", "fill_s", "probe_s", "peak_gib")


class Machine:
    """The measuring scripts in the peers' environment, on the code of this checkout."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.scratch = scratch
        self._python = str(Path(options.peers) / "bin" / "python")

    def call(self, script: str, *words: Any) -> dict[str, Any]:
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TRANSFORMERS_VERBOSITY": "error"}
        command = [self._python, str(HERE / "measure" / script), "--model", self.options.model, *map(str, words)]
        found: dict[str, Any] = json.loads(run(command, env=environment)[1].splitlines()[-1])
        return found

    def train(self, who: str, rows: datasets.Dataset, pairs: int, *words: Any) -> dict[str, Any]:
        folder = self.scratch / f"rows-{abs(hash(rows._fingerprint))}"
        if not folder.exists():
            rows.save_to_disk(str(folder))
        found = self.call("train.py", "--who", who, "--rows", folder, "--pairs", pairs, *words)
        print(who, pairs, *words, {name: round(found[name], 2) for name in MEASURED}, flush=True)
        return found

    def train_if_it_fits(self, *words: Any) -> dict[str, Any] | None:
        """Return the measurement, or None if the system killed the process for lack of memory."""
        try:
            return self.train(*words)
        except SystemExit as error:
            if not str(error).startswith("exit code -9 "):
                raise
            return None

    def gemm(self, dtype: str = "float32") -> float:
        rate: float = self.call("gemm.py", "--dtype", dtype)["flops_per_s"]
        print("gemm", dtype, f"{rate / 1e9:.0f} GFLOP/s", flush=True)
        return rate


def uncut_rows(prepared: Path) -> datasets.Dataset:
    """Return text and token ids of the training pairs that are not truncated, in order."""
    tokens = sorted((prepared / "tokens").iterdir())[0]
    max_length = json.loads((tokens / "manifest.json").read_text())["options"]["max_length"]
    ids = datasets.load_from_disk(str(tokens))["train"]
    text = datasets.load_from_disk(str(prepared))["train"]
    by_id = {id_: row for row, id_ in enumerate(text["id"])}
    text = text.select([by_id[id_] for id_ in ids["id"]]).select_columns(["prompt", "chosen", "rejected"])
    lengths = [len(p) + max(len(c), len(r)) for p, c, r in zip(*(ids[name] for name in IDS), strict=True)]
    rows = datasets.concatenate_datasets([ids.select_columns([*IDS, "id", "origin", "prompt_key"]), text], axis=1)
    return rows.select([row for row, length in enumerate(lengths) if length < max_length])


IDS = ("prompt_ids", "chosen_ids", "rejected_ids")


def matrix_flops(model: str, rows: datasets.Dataset, pairs: int) -> float:
    """Return the operations of training in steps of `pairs` pairs: 6 per token and matrix weight, and attention."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from dpo_train.batches.budget import TokenBudget
    from dpo_train.batches.packed import collate_packed
    from dpo_train.data.rows import PairRows
    from dpo_train.memory.allocator import suggested_tokens

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    head = network.get_output_embeddings()
    weights = {id(part): part.weight.numel() for part in network.modules() if isinstance(part, torch.nn.Linear)}
    inner = sum(weights.values()) - head.weight.numel()
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    total = 0.0
    numbered = PairRows(rows)
    budget = TokenBudget(numbered, suggested_tokens(network, torch.device("cpu")))
    for first in range(0, len(rows), pairs):
        for micro_batch in budget.split_into_micro_batches(np.arange(first, min(first + pairs, len(rows))), 1)[0]:
            batch = collate_packed(numbered.pairs(micro_batch))
            total += 6 * inner * batch.tokens + 6 * head.weight.numel() * len(batch.logits_to_keep)
            total += 12 * config.num_hidden_layers * width * float((batch.position_ids + 1).sum())
    return total


def compare(machine: Machine, rows: datasets.Dataset, pairs: int, steps: int, dtype: str) -> list[str]:
    """Compare dpo-train and TRL, cold and warm, in turn."""
    part = rows.select(range(pairs * steps))
    rate = [machine.gemm(dtype)]
    found = {}
    for warm in ((), ("--warm",)):
        for who in ("trl", "ours"):
            if who == "ours" and warm:
                continue  # one run gives both figures: the time before the first step is measured separately
            parts = ("--at-once", machine.options.trl_at_once) if who == "trl" and machine.options.trl_at_once else ()
            found[who, bool(warm)] = machine.train(who, part, pairs, *warm, *parts, "--dtype", dtype)
            rate.append(machine.gemm(dtype))
    ours, cold, warm = found["ours", False], found["trl", False], found["trl", True]
    ours_cold = ours["loop_s"] + ours["fill_s"] + ours["probe_s"]
    flops = matrix_flops(machine.options.model, part, pairs) / ours["loop_s"]
    # The first two steps also wait for memory from the system.
    later = part.select(range(min(2, steps - 1) * pairs, len(part)))
    later_flops = matrix_flops(machine.options.model, later, pairs) / sum(ours["steps_s"][min(2, steps - 1) :])
    apart = max(abs(one - other) for one, other in zip(ours["losses"], cold["losses"], strict=True))
    lines = [
        _ratio_row("cold, pairs/s", len(part) / ours_cold, len(part) / cold["loop_s"]),
        _ratio_row("warm, pairs/s", len(part) / ours["loop_s"], len(part) / warm["loop_s"]),
        _ratio_row("peak memory, GiB", ours["peak_gib"], cold["peak_gib"]),
    ]
    return [
        f"## Steps of {pairs} pairs, {steps} steps, {dtype}",
        table(["", "ours", "TRL", "ratio"], lines),
        f"- ours: {ours['fill_s']:.1f} s reference, {ours['probe_s']:.1f} s comparing the two paths, "
        f"{ours['tokens'] / ours['loop_s']:.0f} distinct tokens/s; steps {_listed(ours['steps_s'])} s",
        f"- TRL, {machine.options.trl_at_once or pairs} pairs at once: steps {_listed(cold['steps_s'])} s; "
        f"with precomputed reference {_listed(warm['steps_s'])} s",
        f"- losses of all steps differ by at most {apart:.1e}",
        f"- matrix products {flops / 1e9:.0f} GFLOP/s of {_listed([value / 1e9 for value in rate], 0)} on the model's "
        f"shapes alone, measured in between the steps: {flops / np.median(rate):.0%}; after the first two steps "
        f"{later_flops / 1e9:.0f}, {later_flops / np.median(rate):.0%}",
    ]


def _ratio_row(what: str, ours: float, theirs: float) -> list[str]:
    return [what, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}"]


def alone(machine: Machine, rows: datasets.Dataset, pairs: int, steps: int) -> list[str]:
    ours = machine.train("ours", rows.select(range(pairs * steps)), pairs)
    return [
        f"## Steps of {pairs} pairs, ours only",
        f"- {pairs * steps / ours['loop_s']:.3f} pairs/s warm, peak {ours['peak_gib']:.2f} GiB, "
        f"steps {_listed(ours['steps_s'])} s",
    ]


def rankings(machine: Machine, rows: datasets.Dataset) -> list[str]:
    """Measure all 21 pairs of seven responses to each of two prompts, in one step and one by one."""
    ids = list(rows.select(range(60)).select_columns(list(IDS)))
    pairs = []
    for prompt in [row["prompt_ids"] for row in ids if 90 <= len(row["prompt_ids"]) <= 150][:2]:
        responses = [row["chosen_ids"] for row in ids if 40 <= len(row["chosen_ids"]) <= 80][:7]
        for better, worse in itertools.combinations(responses, 2):
            pairs.append({"prompt_ids": prompt, "chosen_ids": better, "rejected_ids": worse})
    return _compared_with_pair_by_pair(machine, "Rankings: 2 prompts with 7 responses, all 42 pairs in one step", pairs)


def alike(machine: Machine, rows: datasets.Dataset) -> list[str]:
    """Measure prompts that share their first 512 tokens, as with a long system message."""
    ids = list(rows.select(range(60)).select_columns(list(IDS)))
    system = [token for row in ids for token in row["prompt_ids"]][:512]
    short = [row for row in ids if sum(map(len, row.values())) <= 200][:8]
    pairs = [row | {"prompt_ids": system + row["prompt_ids"]} for row in short]
    return _compared_with_pair_by_pair(
        machine, "8 pairs whose prompts share their first 512 tokens, in one step", pairs
    )


def _compared_with_pair_by_pair(machine: Machine, title: str, pairs: list[dict[str, Any]]) -> list[str]:
    rows = datasets.Dataset.from_list(pairs)
    together = machine.train("ours", rows, len(rows))
    one_by_one = machine.train("ours", rows, len(rows), "--budget", 1)
    return [
        f"## {title}",
        table(
            ["", "seconds", "tokens"],
            [
                ["prefix sharing", f"{together['loop_s']:.1f}", f"{together['tokens']:,}"],
                ["pair by pair", f"{one_by_one['loop_s']:.1f}", f"{one_by_one['tokens']:,}"],
            ],
        ),
        f"- {one_by_one['loop_s'] / together['loop_s']:.1f} times faster",
    ]


def curve(machine: Machine) -> list[str]:
    """Measure two steps of one pair; the second one counts, with its reference.

    Every word is one token, so that TRL gets the same tokens.
    """
    generator = np.random.default_rng(0)
    tokenizer = AutoTokenizer.from_pretrained(machine.options.model)
    words = [word for word in tokenizer.get_vocab() if re.fullmatch("\u0120[a-z]{3,6}", word)]
    words = [tokenizer.convert_tokens_to_string([word]) for word in sorted(words)[:1000]]

    def draw(prompt: int, response: int) -> dict[str, Any]:
        texts = ["".join(generator.choice(words, count)) for count in (prompt, response - 1, response - 1)]
        prompt_ids, *responses = (tokenizer(text)["input_ids"] for text in texts)
        ids = (prompt_ids, *([*ids, tokenizer.eos_token_id] for ids in responses))
        assert [len(part) for part in ids] == [prompt, response, response]
        return dict(zip((*IDS, "prompt", "chosen", "rejected"), (*ids, *texts), strict=True))

    times, memory = [], []
    for prompt, response in [map(int, lengths.split("+")) for lengths in machine.options.lengths]:
        rows = datasets.Dataset.from_list([draw(prompt, response) for _ in range(2)])
        found = [machine.train_if_it_fits(who, rows, 1) for who in ("ours", "padded", "trl")]
        seconds = [one and one["steps_s"][-1] + one["fill_s"] for one in found]  # that of the second row alone
        what = f"{prompt} + 2 x {response}"
        times.append([what, *(f"{other:.2f} ({other / seconds[0]:.1f})" if other else "killed" for other in seconds)])
        memory.append([what, *(f"{one['peak_gib']:.2f}" if one else "killed" for one in found)])
    header = ["tokens per pair", "ours", "ours padded", "TRL"]
    return [
        "## Cost of a pair by length",
        "Seconds of an optimizer step of one pair with the forward pass of its reference; in parentheses, relative.",
        table(header, times),
        "Peak memory, GiB:",
        table(header, memory),
    ]


def start(machine: Machine, rows: datasets.Dataset) -> list[str]:
    """Measure the time from a loaded model to the first step, with 160,000 pairs and a filled reference store."""
    copies = -(-160_000 // len(rows))
    few = rows.select_columns([*IDS, "origin", "prompt_key"]).to_list()
    many = [
        row | {"prompt_ids": [copy, *row["prompt_ids"]], "prompt_key": f"{copy} {row['prompt_key']}"}
        for copy in range(copies)
        for row in few
    ]
    folder = machine.scratch / "many"
    datasets.Dataset.from_list(many[:160_000]).cast(_token_features(rows)).save_to_disk(str(folder))
    store = machine.scratch / "store"
    found = machine.call("start.py", "--rows", folder, "--store", store)
    return [
        "## Start with 160,000 pairs and a filled reference store",
        f"- {np.median(found['seconds']):.2f} s from the loaded model to the first optimizer step (of "
        f"{_listed(found['seconds'])}): {found['parts']}",
    ]


def _token_features(rows: datasets.Dataset) -> datasets.Features:
    return datasets.Features({name: rows.features[name] for name in [*IDS, "origin", "prompt_key"]})


def _listed(values: list[float], digits: int = 1) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="prepared folder with one token cache")
    parser.add_argument("--peers", default="/tmp/peers")
    parser.add_argument("--only", nargs="+", default=["4", "16", "64", "rankings", "alike", "start", "curve"])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--trl-at-once", type=int, help="pairs per forward pass of TRL, if a whole step does not fit")
    parser.add_argument("--lengths", nargs="+", default=LENGTHS, help="prompt+response lengths of the curve")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = uncut_rows(options.data)
    sections = [["# Training step", "\n".join([*machine_facts(), f"- model: {options.model}; rows: {options.data}"])]]
    with tempfile.TemporaryDirectory() as scratch:
        machine = Machine(options, Path(scratch))
        for what in options.only:
            begin = time.perf_counter()
            if what == "64":
                sections.append(alone(machine, rows, 64, 2))
            elif what.isdigit():
                sections.append(compare(machine, rows, int(what), options.steps, options.dtype))
            else:
                sections.append(
                    {"rankings": rankings, "alike": alike, "start": start}[what](machine, rows)
                    if what != "curve"
                    else curve(machine)
                )
            print(f"{what}: {time.perf_counter() - begin:.0f} s", flush=True)
            text = "\n\n".join("\n\n".join(section) for section in sections) + "\n"
            (options.output or results_file("train-step")).write_text(text)


if __name__ == "__main__":
    main()
