"""Damage to files that manifests name, and to manifests, and whether commands notice."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from trials import Ended, content, copy, damage, run
from world import TRAIN, World

Trial = tuple[str, str, str]


def damage_trials(world: World, rng: random.Random, trials: int) -> Iterator[Trial]:
    """Yield what was damaged, the outcome and details, of trials in turn over all kinds of folders."""
    kinds = (_prepared, _token_cache, _reference, _checkpoint, _run)
    for number in range(trials):
        scratch = world.folder / "trial"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield from kinds[number % len(kinds)](world, rng, scratch)


def judge(ended: Ended, names: list[str], same: bool) -> str:
    """Return the outcome of a command on a folder with a damaged file."""
    if ended.fault:
        return ended.fault
    if ended.code == 0:
        return "harmless" if same else "silent"
    # A manifest that is damaged in the hash of a file makes that file the damaged one.
    is_named = any(Path(name).name in ended.err + ended.out or "manifest" in name for name in names)
    return "found" if is_named else "unnamed"


def _names(folder: Path) -> list[str]:
    manifest = json.loads((folder / "manifest.json").read_text())
    return [*manifest["files"], "manifest.json"]


def _details(how: str, names: list[str], words: tuple[object, ...], ended: Ended) -> str:
    last = (ended.err.strip().splitlines() or [""])[-1][:200] if ended.code is not None else ended.err[-4000:]
    return f"{how} {' and '.join(names)}: {' '.join(map(str, words[:3]))}: exit {ended.code}: {last}"


def _prepared(world: World, rng: random.Random, scratch: Path) -> Iterator[Trial]:
    whole, folder, out = (
        copy(world.prepared, scratch / "whole" / "p"),
        copy(world.prepared, scratch / "p"),
        scratch / "out",
    )
    shutil.rmtree(folder / "tokens")
    shutil.rmtree(whole / "tokens")
    how, names = damage(folder, _names(folder), rng)
    of = "manifest of a prepared folder" if "manifest.json" in names else "prepared folder"
    words: tuple[object, ...] = ("dpo-data", "validate", folder)
    ended = run(scratch / "log", *words)
    yield f"{of}: validate", judge(ended, names, same=False), _details(how, names, words, ended)
    for command in (
        ("dpo-data", "tokenize", "{}", "-t", world.model, "--cache-dir", out),
        ("dpo-data", "show", "{}", "train:3"),
        ("dpo-data", "diff", "{}", world.prepared),
        ("dpo-data", "report", "{}", "--output", out / "report.html"),
        ("dpo-data", "convert", "pairs", "--input", "{}", "--output", out, "--max-invalid", "1"),
    ):
        results = []
        for each in (whole, folder):
            shutil.rmtree(out, ignore_errors=True)
            if command[1] == "report":
                out.mkdir()
            words = tuple(each if word == "{}" else word for word in command)
            ended = run(scratch / "log", *words)
            found = content(out, ("provenance.json", "report.html", "report.json")) if out.exists() else {}
            results.append((ended.code, ended.out.replace(str(each), ""), found))
        yield f"{of}: {command[1]}", judge(ended, names, results[0] == results[1]), _details(how, names, words, ended)


def _token_cache(world: World, rng: random.Random, scratch: Path) -> Iterator[Trial]:
    folder = copy(world.prepared, scratch / "p")
    (cache,) = (folder / "tokens").iterdir()
    whole = content(cache)
    how, names = damage(cache, _names(cache), rng)
    of = "manifest of a token cache" if "manifest.json" in names else "token cache"
    words: tuple[object, ...] = ("dpo-data", "validate", folder)
    ended = run(scratch / "log", *words)
    yield f"{of}: validate", judge(ended, names, same=False), _details(how, names, words, ended)
    yield _trained(world, scratch, folder, how, names, of)
    words = ("dpo-data", "tokenize", folder, "-t", world.model, "--max-length", 60)
    ended = run(scratch / "log", *words)
    outcome = judge(ended, names, same=content(cache) == whole)
    said = "moved to" in ended.out
    yield f"{of}: tokenize", "found" if outcome == "harmless" and said else outcome, _details(how, names, words, ended)


def _trained(world: World, scratch: Path, folder: Path, how: str, names: list[str], of: str, *further: object) -> Trial:
    """Train on a folder, and compare the weights with those of the whole one."""
    words = ("dpo-train", "--data", folder, "--model", world.model, "--output", scratch / "run", *TRAIN, *further)
    ended = run(scratch / "log", *words)
    weights = scratch / "run" / "model.safetensors"
    same = weights.is_file() and weights.read_bytes() == (world.run / "model.safetensors").read_bytes()
    outcome = judge(ended, names, same)
    said = "moved to" in ended.err
    return (
        f"{of}: dpo-train",
        "found" if outcome == "harmless" and said else outcome,
        _details(how, names, words, ended),
    )


def _reference(world: World, rng: random.Random, scratch: Path) -> Iterator[Trial]:
    folder = copy(world.prepared, scratch / "p")
    store = next((folder / "reference").iterdir())
    how, names = damage(store, [path.name for path in store.iterdir()], rng)
    yield _trained(world, scratch, folder, how, names, "reference store")


def _checkpoint(world: World, rng: random.Random, scratch: Path) -> Iterator[Trial]:
    copy(world.run, scratch / "run")
    shutil.rmtree(scratch / "run" / "checkpoint-4")
    (scratch / "run" / "model.safetensors").unlink()
    checkpoint = scratch / "run" / "checkpoint-2"
    files = [path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()]
    how, names = damage(checkpoint, files, rng)
    folder = copy(world.prepared, scratch / "p")
    yield _trained(world, scratch, folder, how, names, "checkpoint", "--resume")


def _run(world: World, rng: random.Random, scratch: Path) -> Iterator[Trial]:
    folder = copy(world.run, scratch / "run")
    how, names = damage(folder, ["pairs.parquet"], rng) if rng.random() < 0.9 else ("none", ["pairs.parquet"])
    words: tuple[object, ...] = ("dpo-data", "show", world.prepared, "--run", folder, "--worst", 5)
    whole = run(scratch / "log", "dpo-data", "show", world.prepared, "--run", world.run, "--worst", 5)
    ended = run(scratch / "log", *words)
    same = whole.out.replace(str(world.run), "") == ended.out.replace(str(folder), "")
    yield "run: show --run", judge(ended, names, same), _details(how, names, words, ended)
