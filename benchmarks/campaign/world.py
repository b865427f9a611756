"""The toys that a campaign works on: raw rows, a prepared folder, tokens, a model, and a finished run."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from toys import make_tiny_model, make_tiny_tokenizer
from trials import fork, run

WORDS = ["please", "the house", "river", "why", "7", "ünïcode", "语言", "\n\t", "quick answer"]
TRAIN = ("--use-cpu", "--max-steps", 4, "--batch-size", 4, "--learning-rate", "1e-3", "--logging-steps", 1)
TRAIN = (*TRAIN, "--save-steps", 2, "--quiet")


@dataclass(frozen=True)
class World:
    """Paths of the toys.

    Attributes:
        folder: of all that follows.
        raw: JSON lines with a few rows that are refused.
        other: further raw rows.
        model: a tiny model with its tokenizer.
        prepared: made from `raw`, with tokens and reference values.
        run: of dpo-train on it.
    """

    folder: Path
    raw: Path
    other: Path
    model: Path
    prepared: Path
    run: Path


def rows(count: int, rng: random.Random) -> list[dict[str, str]]:
    """Return pairs of short texts."""

    def text() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 7)))

    return [{"prompt": f"{n} {text()}?", "chosen": f" yes {text()}", "rejected": f" no {text()}"} for n in range(count)]


def make_world(folder: Path, seed: int) -> World:
    """Make the toys."""
    rng = random.Random(seed)
    world = World(folder, *(folder / name for name in ("raw.jsonl", "other.jsonl", "model", "prepared", "run")))
    for path, count in ((world.raw, 60), (world.other, 45)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, rng)) + '{"prompt": "x"}\n')

    def make() -> int:
        make_tiny_model().save_pretrained(world.model)
        make_tiny_tokenizer().save_pretrained(world.model)
        return 0

    (folder / "log").mkdir()
    assert fork(folder / "log", make).wait().code == 0
    log = folder / "log"
    convert = ("dpo-data", "convert", "pairs", "--input", world.raw, "--output", world.prepared)
    for words in (
        (*convert, "--test-fraction", "0.2", "--max-invalid", "0.5", "--form", "text"),
        ("dpo-data", "tokenize", world.prepared, "-t", world.model, "--max-length", 60),
        ("dpo-train", "--data", world.prepared, "--model", world.model, "--output", world.run, *TRAIN),
    ):
        ended = run(log, *words)
        assert ended.code == 0, ended
    return world
