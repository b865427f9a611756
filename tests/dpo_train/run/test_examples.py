"""What lies in examples/ runs, or is at least understood by what it is meant for."""

import runpy
from pathlib import Path

import pytest
import typer
import yaml
from accelerate.commands.config.config_args import load_config_from_file

from dpo_train.cli import app
from dpo_train.config import as_words, parse_training_options

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_the_seeds_usage_learns_its_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "dpo.py"))["main"](str(tmp_path / "run"))
    figures = {
        line.split()[0]: float(line.split()[-1]) for line in capsys.readouterr().out.splitlines() if "->" in line
    }
    assert figures["rewards/accuracies"] == 1
    assert figures["rewards/margins"] > 1
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_every_option_of_the_run_file_is_one_of_dpo_trains() -> None:
    options = yaml.safe_load((EXAMPLES / "run.yaml").read_text())
    own = {parameter.name for parameter in typer.main.get_command(app).params}
    others = {name: value for name, value in options.items() if name not in own}
    assert others
    assert set(parse_training_options(as_words(others))) == set(others)


@pytest.mark.parametrize("name", ["fsdp2.yaml", "nodes.yaml", "zero3.yaml"])
def test_launch_files_are_understood_by_accelerate(name: str) -> None:
    assert load_config_from_file(str(EXAMPLES / name)).num_processes in (8, 16)
