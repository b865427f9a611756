"""The plan of a run, and the choice of its model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from toys import make_tiny_model, make_tiny_tokenizer
from train_cli import QUICK, Trained, dpo_train
from transformers import AutoModelForCausalLM

from dpo_data.tokens.cache import tokenize


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def plan(*words: Any) -> dict[str, Any]:
    result = dpo_train(*words, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    prepared: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    found = plan("--data", prepared, "--model", model_folder, "--batch-size", 4)
    assert found["steps"] == -(-found["pairs"]["train"] // 4)
    assert found["parameters"] == AutoModelForCausalLM.from_pretrained(model_folder).num_parameters()
    assert found["trained_parameters"] == found["parameters"]
    assert found["tokens"] is None
    assert tree(tmp_path) == before


def test_a_dry_run_shows_the_token_cache_and_the_same_lengths_once_it_exists(
    prepared: Path, model_folder: Path
) -> None:
    words = ("--data", prepared, "--model", model_folder)
    before = plan(*words)
    cache = tokenize(prepared, tokenizer=model_folder)
    assert plan(*words) == before | {"tokens": str(cache.path)}


def test_the_plan_is_printed_in_words(prepared: Path, model_folder: Path) -> None:
    result = dpo_train("--data", prepared, "--model", model_folder, "--batch-size", 4, "--dry-run")
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("model", "tokens", "pairs", "longest", "distinct", "path", "steps", "parameters", "memory")
    ]
    assert "tokens     none fits yet; the run makes the cache\n" in result.stdout


def test_the_memory_estimate_counts_trained_weights_and_those_of_4_bits(
    prepared: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_train.run.arguments.require_packages", lambda *_: None)  # bitsandbytes is not installed
    words = ("--data", prepared, "--model", model_folder)
    model = make_tiny_model()
    linear = [layer for name, layer in model.named_modules() if "proj" in name]
    adapter = sum(4 * (layer.in_features + layer.out_features) for layer in linear)
    frozen = sum(layer.weight.numel() for layer in linear)
    full, lora, quantized = (plan(*words, *extra) for extra in ((), ("--lora-r", 4), ("--lora-r", 4, "--load-in-4bit")))
    assert lora["trained_parameters"] == quantized["trained_parameters"] == adapter
    gib = 2**30
    # Full training: a gradient and two moments for each weight; an adapter: itself in float32 and the same three.
    assert (full["memory_gib"] - lora["memory_gib"]) * gib == pytest.approx(12 * model.num_parameters() - 16 * adapter)
    assert (lora["memory_gib"] - quantized["memory_gib"]) * gib == pytest.approx(frozen * (4 - 4.127 / 8))


def test_a_dry_run_refuses_what_the_run_would_refuse(
    trained: Trained, prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    for checkpoint in run.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    words = ("--data", prepared, "--model", model_folder, "--output", run, *QUICK)
    for extra in ((), ("--resume",), ("--overwrite", "--loss", "odpo"), ("--overwrite", "--max-length", 1)):
        dry, real = dpo_train(*words, *extra, "--dry-run"), dpo_train(*words, *extra)
        assert dry.exit_code == real.exit_code == 2
        assert dry.stderr.startswith("Error: ")
        assert dry.stderr == "Error: " + real.stderr.partition("Error: ")[2]


def test_the_only_token_cache_of_the_models_tokenizer_is_used(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    cache = tokenize(prepared, tokenizer=model_folder, max_length=20)
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert f"tokens     {cache.path}\n" in result.stderr


def test_the_model_is_the_one_whose_tokenizer_made_the_only_token_cache(
    prepared: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    tokenize(prepared, tokenizer=model_folder.name)
    monkeypatch.chdir(prepared)
    result = dpo_train("--data", prepared, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == f"model      {model_folder}, whose tokenizer made the token cache\n"


def test_without_a_token_cache_the_model_must_be_named(prepared: Path) -> None:
    result = dpo_train("--data", prepared)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: {prepared}: has no token cache from which the model could be taken.\n"
        "  Name the model: --model NAME.\n",
    )


def test_with_token_caches_of_several_models_the_choices_are_listed(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(other)
    for folder in (model_folder, other):
        tokenize(prepared, tokenizer=folder)
    result = dpo_train("--data", prepared)
    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: {prepared}: tokenizers of several models made its token caches; choose the model:\n"
        + "".join(f"    --model {folder}\n" for folder in sorted(map(str, (model_folder, other))))
    )
