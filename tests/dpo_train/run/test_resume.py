"""Runs that resume an earlier one, or replace it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from train_cli import QUICK, Trained, dpo_train, records
from transformers import AutoModelForCausalLM
from typer.testing import Result

from dpo_data import convert


def test_resuming_gives_the_weights_of_an_uninterrupted_run(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    common = ("--data", prepared, "--model", model_folder, *QUICK, "--save-steps", "3")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert dpo_train(*common, "--output", straight).exit_code == 0
    shutil.copytree(straight, broken)
    for name in ("trainer_state.json", "checkpoint_manifest.json"):
        (broken / "checkpoint-6" / name).unlink()  # as if it had been killed while it saved the last one
    result = dpo_train(*common, "--output", broken, "--resume")
    assert result.exit_code == 0, result.stderr
    assert f"resuming   {broken / 'checkpoint-3'}" in result.stderr
    weights = [AutoModelForCausalLM.from_pretrained(run).state_dict() for run in (straight, broken)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    """kill -9 while a checkpoint is written after every step, so that usually one is incomplete."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    words = ["--data", prepared, "--model", model_folder, "--use-cpu", "--max-steps", 10, "--batch-size", 4]
    words += ["--learning-rate", "1e-3", "--save-steps", 1, "--save-total-limit", 3]
    command = [sys.executable, "-m", "dpo_train", *(str(word) for word in words), "--output", str(killed)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as here: sums depend on the number of threads
    with subprocess.Popen(
        command, env=one_thread, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while not (killed / "checkpoint-4").exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "config.json").exists()
    resumed = dpo_train(*words, "--output", killed, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert dpo_train(*words, "--output", straight).exit_code == 0
    weights = [AutoModelForCausalLM.from_pretrained(run).state_dict() for run in (straight, killed)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    losses = [
        [(record["step"], record["loss"]) for record in records(run) if "loss" in record] for run in (straight, killed)
    ]
    assert losses[0] == losses[1]


def test_a_finished_run_is_only_replaced_with_overwrite(
    trained: Trained, prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    words = ("--data", prepared, "--model", model_folder, "--output", run, *QUICK)
    refused = dpo_train(*words)
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"Error: {run}: holds a run already.\n"
        "  Resume it: --resume. Replace it: --overwrite. Or name another folder: --output FOLDER.\n"
    )
    assert dpo_train(*words, "--overwrite").exit_code == 0


@pytest.fixture
def early(raw_pairs: Path, model_folder: Path, tmp_path: Path) -> tuple[Path, Path, Result]:
    """A run that trains on after its best step: its folder, its data, and what it printed."""
    data, run = tmp_path / "data", tmp_path / "run"
    convert("pairs", [raw_pairs], output=data, test_fraction=0.25)
    words = ("--data", data, "--model", model_folder, "--output", run, "--use-cpu", "--batch-size", 8, "--max-steps", 8)
    options = ("--eval-steps", 1, "--early-stopping", 3, "--learning-rate", 0.3, "--lr-scheduler-type", "constant")
    result = dpo_train(*words, *options, "--loss", "ipo", "--warmup-steps", 0)
    assert result.exit_code == 0, result.stderr
    return run, data, result


def test_the_best_model_is_reported_where_a_run_trained_on_after_it(
    early: tuple[Path, Path, Result], model_folder: Path, tmp_path: Path
) -> None:
    run, data, result = early
    evaluations = {each["step"]: each["eval_loss"] for each in records(run) if "eval_loss" in each and each["step"]}
    best = min(evaluations, key=lambda step: evaluations[step])
    assert best < max(evaluations)
    assert evaluations[best] < evaluations[max(evaluations)] - 0.01
    again = dpo_train(
        *("--data", data, "--model", run, "--reference", model_folder, "--loss", "ipo", "--eval-only", "--json"),
        *("--output", tmp_path / "again"),
    )
    measured = json.loads(again.stdout)["after"]["eval_loss"]
    assert measured == pytest.approx(evaluations[best], rel=1e-4)
    title = f"(model of step {best} of {max(evaluations)}, the best)"
    assert title in " ".join(result.stdout.split())
    assert f"{evaluations[best]:.4f}" in result.stdout
    for name in ("README.md", "report.html"):
        text = (run / name).read_text()
        assert title in text
        assert f"{evaluations[best]:.4f}" in text
        assert f"{evaluations[max(evaluations)]:.4f}" not in text
    pairs, expected = (pq.read_table(folder / "pairs.parquet").to_pandas() for folder in (run, tmp_path / "again"))
    pairs, expected = pairs[pairs.split == "test"], expected[expected.split == "test"]
    assert set(pairs.step) == {best}
    np.testing.assert_allclose(pairs.margin, expected.margin, rtol=1e-3, atol=1e-4)


def test_a_table_in_a_pipe_has_no_box_drawing(early: tuple[Path, Path, Result]) -> None:
    assert early[2].stdout.isascii()
    assert "reward margin" in early[2].stdout


@pytest.fixture(scope="module")
def saved(
    raw_pairs: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, tuple[Any, ...]]:
    """A finished run of 6 steps with checkpoints after 3 and 6: its folder, its data, and its command line."""
    folder = tmp_path_factory.mktemp("saved")
    data, run = folder / "data", folder / "run"
    convert("pairs", [raw_pairs], output=data, test_fraction=0.25)
    words = ("--data", data, "--model", model_folder, *QUICK, "--save-steps", 3)
    assert dpo_train(*words, "--output", run).exit_code == 0
    return run, data, words


def interrupted(run: Path, folder: Path) -> Path:
    """Return a copy of a run as if it had stopped after its first checkpoint."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoint-6")
    return folder


def test_the_pairs_of_a_resumed_run_are_those_of_an_uninterrupted_one(saved: Any, tmp_path: Path) -> None:
    run, _, words = saved
    again = interrupted(run, tmp_path / "again")
    assert dpo_train(*words, "--output", again, "--resume").exit_code == 0
    tables = [pq.read_table(folder / "pairs.parquet") for folder in (run, again)]
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows > 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss", "ipo"], "the loss: ipo, not sigmoid"),
        (["--beta", 0.5], "beta: 0.5, not 0.1"),
        (["--label-smoothing", 0.1], "label_smoothing: 0.1, not None"),
        (["--batch-size", 4], "the pairs per step: 4, not 8"),
        (["--seed", 7], "seed: 7, not 42"),
        (["--dtype", "bfloat16"], "the model's weights: others"),
        (["--max-length", 20, "--cache-dir", "{sft}"], "the training pairs: others"),
        (["--reference", "{sft}"], "the reference: {sft}, not the model before training"),
        (["--lora-r", 2], "the adapter: others"),
    ],
)
def test_another_run_is_not_resumed(
    options: list[Any], message: str, saved: Any, model_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(model_folder, other)
    run, _, words = saved
    again = interrupted(run, tmp_path / "again")
    options = [str(word).format(sft=other) for word in options]
    result = dpo_train(*words, *options, "--output", again, "--resume")
    assert result.exit_code == 2
    assert f"{again / 'checkpoint-3'}: another run saved it:\n" in result.stderr
    assert message.format(sft=other) in result.stderr


def test_a_resumed_run_may_have_more_steps_and_says_so(
    saved: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _, words = saved
    again = interrupted(run, tmp_path / "again")
    result = dpo_train(*words, "--max-steps", 8, "--logging-steps", 4, "--output", again, "--resume")
    assert result.exit_code == 0, result.stderr
    said = next(line for line in caplog.messages if line.startswith("resuming with other arguments than before: "))
    assert "max_steps: 8, not 6" in said
    assert "logging_steps: 4, not 2" in said
    assert said.count(";") == 1
    assert records(again)[-1]["step"] == 8


def test_a_checkpoint_that_does_not_say_which_run_saved_it_is_resumed(
    saved: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, _, words = saved
    again = interrupted(run, tmp_path / "again")
    (again / "checkpoint-3" / "dpo_train.json").unlink()
    assert dpo_train(*words, "--output", again, "--resume").exit_code == 0
    assert "checkpoint-3: does not say which run saved it" in caplog.text


def test_a_checkpoint_of_another_folder_is_resumed_from(saved: Any, tmp_path: Path) -> None:
    run, _, words = saved
    checkpoint = run / "checkpoint-3"
    result = dpo_train(*words, "--resume-from-checkpoint", checkpoint, "--output", tmp_path / "new")
    assert result.exit_code == 0, result.stderr
    assert f"resuming   {checkpoint}" in result.stderr
    weights = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (run, tmp_path / "new")]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    missing = dpo_train(*words, "--resume-from-checkpoint", run / "checkpoint-4", "--output", tmp_path / "newer")
    assert (missing.exit_code, "there is no such checkpoint" in missing.stderr) == (2, True)
