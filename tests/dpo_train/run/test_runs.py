"""Finished runs of dpo-train: their files, their metrics, and what is printed."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_from_disk
from toys import make_tiny_tokenizer
from train_cli import QUICK, Trained, dpo_train, records
from transformers import AutoModelForCausalLM, AutoTokenizer


def test_a_prepared_folder_becomes_a_trained_model(trained: Trained) -> None:
    run, _, result = trained
    assert "reward margin" in result.stdout
    assert f"curves   {run / 'curves.png'}" in result.stdout
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    steps = [record["step"] for record in records(run) if "loss" in record]
    assert steps == [1, 2, 4, 6]
    evaluations = {record["step"]: record for record in records(run) if "eval_loss" in record}
    assert list(evaluations) == [0, 6]
    assert evaluations[0]["eval_rewards/margins"] == 0
    assert evaluations[6]["eval_loss"] < evaluations[0]["eval_loss"]


def test_the_run_folder_loads_as_model_and_tokenizer(trained: Trained, model_folder: Path) -> None:
    run = trained.folder
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (model_folder, run))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(run)("a").input_ids == make_tiny_tokenizer()("a").input_ids


def test_only_json_goes_to_standard_output(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", run, "--json", *QUICK)
    found = json.loads(result.stdout)
    assert (found["steps"], found["output"]) == (6, str(run))
    assert found["after"]["eval_loss"] < found["before"]["eval_loss"]


def test_a_run_writes_a_card_a_report_with_samples_and_the_metrics_of_every_pair(trained: Trained) -> None:
    run = trained.folder
    card = (run / "README.md").read_text()
    assert "License of the data:" in card
    assert "| reward margin | 0.0000 |" in card
    page = (run / "report.html").read_text()
    assert page.count("<h4>before</h4>") == 2
    assert page.count('<svg class="chart"') == 4
    assert '<section id="worst">' in page
    assert '<td>max_length</td><td class="value">60</td>' in page
    assert "PosixPath" not in page
    pairs = pq.read_table(run / "pairs.parquet").to_pandas()
    assert set(pairs["step"]) == {1, 2, 3, 4, 5, 6}
    test = pairs[pairs["split"] == "test"]
    assert len(test) + pairs[pairs["split"] == "train"]["id"].nunique() == 40
    policy = test["policy_chosen_logps"] - test["policy_rejected_logps"]
    reference = test["ref_chosen_logps"] - test["ref_rejected_logps"]
    assert list(test["margin"]) == pytest.approx(list(0.1 * (policy - reference)), abs=1e-5)
    assert test["margin"].mean() == pytest.approx(records(run)[-1]["eval_rewards/margins"], rel=1e-5)


def test_supervised_fine_tuning_and_then_dpo_are_two_commands(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    tuned, run = tmp_path / "tuned", tmp_path / "run"
    assert (
        dpo_train("--data", prepared, "--model", model_folder, "--output", tuned, "--loss", "sft", *QUICK).exit_code
        == 0
    )
    before, after = (record["eval_logps/chosen"] for record in records(tuned) if "eval_loss" in record)
    assert after > before
    result = dpo_train("--data", prepared, "--model", tuned, "--output", run, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert records(run)[0]["eval_logps/chosen"] == pytest.approx(after, rel=1e-4)


def test_eval_only_compares_a_model_with_a_reference(trained: Trained, model_folder: Path, tmp_path: Path) -> None:
    run, data, _ = trained
    words = ("--reference", model_folder, "--output", tmp_path / "evaluated", "--eval-only", "--json", "--use-cpu")
    result = dpo_train("--data", data, "--model", run, *words)
    assert result.exit_code == 0, result.stderr
    margin = records(run)[-1]["eval_rewards/margins"]
    assert json.loads(result.stdout)["after"]["eval_rewards/margins"] == pytest.approx(margin, rel=1e-4)


@pytest.mark.parametrize("merge", [False, True])
def test_lora_saves_the_adapter_or_the_merged_model(
    prepared: Path, model_folder: Path, tmp_path: Path, merge: bool
) -> None:
    run = tmp_path / "run"
    words = ("--lora-r", 4, *(["--merge-adapter"] if merge else []))
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", run, *QUICK, *words)
    assert result.exit_code == 0, result.stderr
    assert (run / "adapter_model.safetensors").exists() == (not merge)
    assert (run / "model.safetensors").exists() == merge


def test_early_stopping_ends_a_run_that_does_not_improve(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    words: tuple[Any, ...] = (
        "--use-cpu",
        "--max-steps",
        50,
        "--batch-size",
        4,
        "--learning-rate",
        0,
        "--eval-steps",
        1,
    )
    words += ("--early-stopping", 2, "--json")
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *words)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 3


def test_reference_log_probabilities_are_stored_with_the_data_unless_it_is_read_only(
    trained: Trained, prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(trained.data.glob("reference/*/*.npy"))) > 0
    words = ("--data", prepared, "--model", model_folder, *QUICK, "--max-length", 60, "--output")
    monkeypatch.setattr("os.access", lambda path, mode: not (Path(path) == prepared and mode == os.W_OK))
    read_only = dpo_train(*words, tmp_path / "run")
    assert read_only.exit_code == 0, read_only.stderr
    assert not (prepared / "reference").exists()


def test_a_run_shows_its_progress_in_lines_where_standard_error_is_not_a_terminal(
    prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpo_train.run.callbacks.ProgressLine.SILENCE_S", 0.0)
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK)
    steps = [line.split()[2] for line in result.stderr.splitlines() if line.startswith("train ")]
    assert list(dict.fromkeys(steps)) == [f"{step}/6" for step in range(1, 7)]


def test_a_quiet_run_prints_nothing(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert (tmp_path / "run" / "report.html").exists()


def test_several_losses_are_added_with_their_weights(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    """The first step has log-ratios of 0: sigmoid is ln 2, bco_pair 2 ln 2, so that the weighted sum is known."""
    run, data = tmp_path / "run", ("--data", prepared, "--model", model_folder)
    dpo_train(*data, "--output", run, *QUICK, "--loss", "sigmoid", "bco_pair", "--loss-weights", ".8", ".2")
    first = next(record for record in records(run) if "loss" in record)
    assert first["loss"] == pytest.approx((0.8 + 0.2 * 2) * np.log(2), abs=1e-4)
    assert "0.8 sigmoid + 0.2 bco_pair" in (run / "README.md").read_text()
    assert '<td>loss_type</td><td class="value">sigmoid, bco_pair</td>' in (run / "report.html").read_text()


def test_losses_and_weights_may_come_from_a_file(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("loss: [sigmoid, sft]\nloss_weights: [1, 0]\n")
    run, data = tmp_path / "run", ("--data", prepared, "--model", model_folder)
    dpo_train(*data, "--output", run, *QUICK, "--config", file)
    assert next(record for record in records(run) if "loss" in record)["loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_metrics_of_the_untrained_policy_are_marked(trained: Trained) -> None:
    marked = {record["step"] for record in records(trained.folder) if record.get("untrained")}
    assert marked == {0, 1}
    assert all("untrained" not in record for record in records(trained.folder) if record["step"] > 1)
    lines = [line for line in trained.result.stderr.splitlines() if "step " in line]
    assert [line for line in lines if "(untrained policy)" in line] == lines[:2]


def test_the_report_counts_the_pairs_that_were_trained_on(trained: Trained) -> None:
    html, card = (" ".join((trained.folder / name).read_text().split()) for name in ("report.html", "README.md"))
    trained_on = load_from_disk(str(trained.data))["train"].num_rows
    assert trained_on < 40
    assert f"trained with the sigmoid loss on {trained_on} pairs of" in html
    assert f"{trained_on} pairs for training, of 40 in the data set" in card


def test_code_that_comes_with_a_model_is_run_only_if_requested(
    prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    shutil.copytree(model_folder, own)
    settings = json.loads((own / "config.json").read_text())
    names = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (own / "config.json").write_text(json.dumps(settings | {"model_type": "own", "auto_map": names}))
    (own / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    words = ("--data", prepared, "--model", own, "--output", tmp_path / "run", *QUICK)
    refused = dpo_train(*words)
    assert refused.exit_code == 2
    assert "own: the model contains custom code, which would run on this machine.\n" in refused.stderr
    assert "--trust-remote-code" in refused.stderr
    assert dpo_train(*words, "--trust-remote-code").exit_code == 0
