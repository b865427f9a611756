"""Runs that resume an earlier one, or replace it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from train_cli import QUICK, Trained, dpo_train, records
from transformers import AutoModelForCausalLM


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
