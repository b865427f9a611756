"""The files in examples/ run, or are at least accepted by the programs they are for."""

import dataclasses
import runpy
from pathlib import Path

import pytest
import typer
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from dpo_train.cli import app, run_options

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_usage_of_the_seed_learns_its_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "dpo.py"))["main"](str(tmp_path / "run"))
    figures = {
        line.split()[0]: float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "->" in line
    }
    assert figures["rewards/accuracies"] == 1
    assert figures["rewards/margins"] > 1
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_every_option_of_the_run_file_is_an_option_of_dpo_train() -> None:
    words = ["--config", str(EXAMPLES / "run.yaml"), "--data", "prepared"]
    context = typer.main.get_command(app).make_context("dpo-train", words)
    found = run_options(context, context.params)
    given = yaml.safe_load((EXAMPLES / "run.yaml").read_text())
    assert given.keys() <= {"loss", *found.training, *(field.name for field in dataclasses.fields(found))}
    assert found.training["learning_rate"] == 1e-6


@pytest.mark.parametrize("name", ["fsdp2.yaml", "nodes.yaml", "zero3.yaml"])
def test_launch_files_are_accepted_by_accelerate(name: str) -> None:
    assert load_config_from_file(str(EXAMPLES / name)).num_processes in (8, 16)
