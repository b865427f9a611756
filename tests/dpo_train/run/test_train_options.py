"""The options of dpo-train: help, values, files of options."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from train_cli import dpo_train
from transformers import HfArgumentParser, TrainingArguments

from dpo_data.errors import UsageError
from dpo_train import LOSSES, DPOConfig
from dpo_train.cli import app, run_options
from dpo_train.losses import options_of
from dpo_train.run.arguments import loading_options, training_arguments
from dpo_train.run.options import RunOptions


def parsed(*words: Any) -> RunOptions:
    context = typer.main.get_command(app).make_context("dpo-train", [str(word) for word in words])
    return run_options(context, context.params)


def training(*words: Any) -> dict[str, Any]:
    return dict(parsed("--data", "prepared", *words).training)


def test_help_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from dpo_train.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy', 'pydantic') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


def test_help_lists_our_own_options_and_those_of_every_loss_in_sections() -> None:
    text = dpo_train("--help").stdout
    assert [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")] == [
        "Main options:",
        "Loss and reference:",
        "LoRA:",
        "Batches and memory:",
        "Tokens:",
        "Evaluation, checkpoints and logs:",
        "Run:",
        "Options:",
    ]
    for option in {option for loss in LOSSES.values() for option in options_of(loss)}:
        assert f"--{option.replace('_', '-')} X" in text
    assert all(name in text for name in LOSSES)
    assert "--weight-decay" not in text


def test_help_all_lists_every_field_of_training_arguments() -> None:
    text = dpo_train("--help-all").stdout
    for field in dataclasses.fields(TrainingArguments):
        if field.init and field.name != "output_dir":
            assert f"--{field.name.replace('_', '-')}" in text, field.name
    assert "%%" not in text


@pytest.mark.parametrize("columns", [80, 120])
def test_help_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert max(len(line) for line in dpo_train("--help").stdout.splitlines()) <= columns


def test_values_get_the_type_of_their_field() -> None:
    assert training(
        *("--learning-rate", "1e-6", "--warmup_steps=3", "--bf16", "--report-to", "tensorboard"),
        *("--weight-decay", "0.5", "--torch-empty-cache-steps", "4", "--optim", "adafactor", "--label-names", "a", "b"),
    ) == {
        "learning_rate": 1e-6,
        "warmup_steps": 3.0,
        "bf16": True,
        "report_to": ["tensorboard"],
        "weight_decay": 0.5,
        "torch_empty_cache_steps": 4,
        "optim": "adafactor",
        "label_names": ["a", "b"],
    }


def test_the_last_value_given_counts() -> None:
    assert training("--save-steps", "5", "--save-steps", "7") == {"save_steps": 7.0}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--use-cpu"], True),
        (["--use-cpu", "true"], True),
        (["--use_cpu=True"], True),
        (["--use-cpu", "--use-cpu", "no"], False),
        (["--no-use-cpu"], False),
    ],
)
def test_switches_take_a_value_or_none(words: list[str], value: bool) -> None:
    assert training(*words) == {"use_cpu": value}


def test_switches_can_be_turned_off() -> None:
    assert training("--no-logging-first-step", "--tf32", "false") == {"logging_first_step": False, "tf32": False}


def test_a_switch_of_a_file_can_be_turned_off_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: prepared\nbf16: true\nload_in_4bit: true\n")
    found = parsed("--config", file, "--bf16", "false", "--no-load-in-4bit")
    assert (found.training, found.load_in_4bit) == ({"bf16": False}, False)


def test_short_names_are_accepted() -> None:
    assert training("--lr", "1e-5", "--epochs", 2, "--loss", "ipo") == training(
        "--learning-rate", "1e-5", "--num-train-epochs", 2, "--loss-type", "ipo"
    )


def test_the_output_folder_is_run_by_default() -> None:
    assert str(parsed("--data", "prepared").output) == "run"
    assert str(parsed("--data", "prepared", "-o", "other").output) == "other"


def test_a_file_and_the_command_line_give_the_same_values(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "data: prepared\nlr: 1e-6\nbf16: false\nmax-steps: 3\noptim_args: null\nlr_scheduler_kwargs: {a: 1}\n"
        "report_to: [wandb, mlflow]\nload_in_4bit: true\nmax_length: 60\n"
    )
    found = parsed("--config", file)
    assert found.training == {
        "learning_rate": 1e-6,
        "bf16": False,
        "max_steps": 3,
        "lr_scheduler_kwargs": '{"a": 1}',
        "report_to": ["wandb", "mlflow"],
    }
    assert (found.load_in_4bit, found.truncation()) == (True, {"max_length": 60})


def test_options_of_the_command_line_override_those_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: prepared\nbatch_size: 4\nmax-steps: 3\nseed: 1\nweight_decay: 0.1\n")
    found = parsed("--config", file, "--batch-size", 8, "--weight-decay", 0.2)
    assert (found.batch_size, found.training) == (8, {"max_steps": 3, "seed": 1, "weight_decay": 0.2})


def test_options_of_the_chat_template_are_those_of_tokenize(tmp_path: Path) -> None:
    words = ("--chat-template-kwargs", "enable_thinking=false", "--template-date", "2026-11-25")
    given = {"chat_template_kwargs": {"enable_thinking": False}, "template_date": "2026-11-25"}
    assert parsed("--data", "prepared", *words).truncation() == given
    file = tmp_path / "options.yaml"
    file.write_text("data: prepared\ntemplate_date: '2026-11-25'\nchat_template_kwargs:\n  enable_thinking: false\n")
    assert parsed("--config", file).truncation() == given


def test_training_arguments_can_be_read_by_the_parser_of_transformers() -> None:
    words = ["--output_dir", "run", "--beta", "0.2", "--f_divergence_type", "js_divergence", "--report_to", "none"]
    (args,) = HfArgumentParser(DPOConfig).parse_args_into_dataclasses(words)
    assert (args.beta, args.f_divergence_type, args.report_to) == (0.2, "js_divergence", [])


def test_options_of_a_loss_that_a_program_added_are_options_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def focal(chosen_logratios: Any, rejected_logratios: Any, *, focus: float = 2.0, beta: float = 0.1) -> Any:
        """Weigh hard pairs more.

        Args:
            chosen_logratios: (B,).
            rejected_logratios: (B,).
            focus: exponent of the weight.
            beta: as in sigmoid.
        """

    monkeypatch.setitem(LOSSES, "focal", focal)
    options = parsed("--data", "prepared", "--loss", "focal", "--focus", "3", "--loss-options", '{"other": 1}')
    assert training_arguments(options).loss_options == {"other": 1, "focus": 3.0}
    assert "Exponent of the weight. Losses: focal." in " ".join(dpo_train("--help-all").stdout.split())


@pytest.mark.parametrize(
    ("value", "message"),
    [("[1]", "must map names to values."), ("{", "is not JSON: Expecting property name enclosed in double quotes")],
)
def test_arguments_of_from_pretrained_are_json(value: str, message: str) -> None:
    given = parsed("--data", "prepared", "--model-init-kwargs", '{"attn_implementation": "eager"}')
    assert loading_options(given)["attn_implementation"] == "eager"
    assert training_arguments(given).model_init_kwargs is None
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        loading_options(parsed("--data", "prepared", "--model-init-kwargs", value))
