"""User errors of dpo-train: one message, exit code 2, and no traceback."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import make_tiny_tokenizer
from train_cli import QUICK, dpo_train

from dpo_data.tokens.cache import tokenize
from dpo_train import LOSSES


def refusal(*words: Any) -> str:
    """Return the whole error of a command that fails with exit code 2."""
    result = dpo_train(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


@pytest.fixture
def words(prepared: Path, model_folder: Path, tmp_path: Path) -> list[Any]:
    return ["--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK]


def usage(message: str) -> str:
    return f"Usage: dpo-train [OPTIONS]\nTry 'dpo-train --help' for help.\n\nError: {message}\n"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--batchsize", 4], "--batchsize: there is no such option.\n  Did you mean --batch-size?"),
        (["--lerning_rate", 4], "--lerning-rate: there is no such option.\n  Did you mean --learning-rate?"),
        (["--nonsense", 3], "--nonsense: there is no such option."),
        (["stray"], "Got unexpected extra argument (stray)"),
        (["--save-strategy", "stepz"], "Invalid value for '--save-strategy': 'stepz' is not one of 'no', 'steps', "
         "'epoch', 'best'.\n  Did you mean steps?"),
    ],
)  # fmt: skip
def test_what_the_parser_refuses_points_to_help(words: list[Any], extra: list[Any], message: str) -> None:
    refused = refusal(*words, *extra).replace("argument(s)", "argument")  # one version of click or the other
    assert refused == usage(message)


def test_a_value_of_the_wrong_type_is_shown(words: list[Any]) -> None:
    assert "Error: Invalid value for '--max-steps': " in refusal(*words, "--max-steps", "many")
    assert "many" in refusal(*words, "--max-steps", "many")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ["--loss", "sigmod"],
            f"--loss sigmod: there is no such loss.\n  Did you mean sigmoid?\n  Losses: {', '.join(LOSSES)}.",
        ),
        (
            ["--loss", "ipo", "--label-smoothing", "0.1"],
            "the loss ipo has no --label-smoothing; its options: --beta.",
        ),
        (["--label-smoothing", "0.5"], "--label-smoothing 0.5: must be in [0, 0.5)."),
        (
            ["--batch-size", 7, "--gradient-accumulation-steps", 2],
            "--batch-size 7: over 1 processes is 7 pairs each, which is not 2 micro-batches of 3.\n"
            "  Pass --batch-size with only one of --per-device-train-batch-size and --gradient-accumulation-steps.",
        ),
        (["--merge-adapter"], "--merge-adapter merges a LoRA adapter; pass --lora-r too."),
        (
            ["--load-in-4bit"],
            "--load-in-4bit freezes the weights, which leaves nothing to train; pass --lora-r too.",
        ),
        (
            ["--load-in-4bit", "--lora-r", 4, "--merge-adapter"],
            "--merge-adapter cannot merge into weights of 4 bits; leave it out and merge afterwards.",
        ),
        (
            ["--label-smoothing-factor", 0.2],
            "--label-smoothing-factor 0.2: smooths the labels of another loss; use --label-smoothing.",
        ),
        (["--max-steps", 0], "--max-steps 0: trains nothing; to evaluate only, call evaluate or pass --eval-only."),
        (["--beta", -1], "--beta -1.0: must not be negative: the loss would prefer the rejected responses."),
        (
            ["--resume", "--resume-from-checkpoint", "run"],
            "--resume and --resume-from-checkpoint exclude each other; pass only one.",
        ),
        (["--resume-from-checkpoint", "run"], "--resume-from-checkpoint run: there is no such checkpoint."),
        (["--lora-alpha", 8], "--lora-alpha is an option of a new adapter; pass --lora-r too."),
        (["--lora-r", 4, "--lora-dropout", 1], "--lora-dropout 1.0: must be in [0, 1)."),
        (["--early-stopping", 2], "--early-stopping counts evaluations; set their interval: --eval-steps."),
        (["--resume", "--overwrite"], "--resume and --overwrite exclude each other; pass only one."),
        (["--report-to", "no_such"], "--report-to no_such: there is no such tracker.\n  Trackers: "),
        (["--tf32", "true"], "transformers refuses the training options: "),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_run_and_dry_run(
    words: list[Any], extra: list[Any], message: str
) -> None:
    for found in (refusal(*words, *extra), refusal(*words, *extra, "--dry-run")):
        if message.endswith(": "):
            assert found.startswith(f"Error: {message}")
        else:
            assert found == f"Error: {message}\n"
    assert not Path(words[5]).exists()


@pytest.mark.parametrize("package", ["bitsandbytes", "peft", "torch", "wandb"])
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(
    words: list[Any], package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else find_spec(name))
    extra = {
        "bitsandbytes": ["--load-in-4bit", "--lora-r", 4],
        "peft": ["--lora-r", 4],
        "torch": [],
        "wandb": ["--report-to", "wandb"],
    }
    feature = {"bitsandbytes": "--load-in-4bit", "peft": "--lora-r", "torch": "dpo-train"}
    found = refusal(*words, *extra[package])
    if package == "wandb":
        assert found == "Error: --report-to wandb: the tracker is not installed.\n  Install: pip install wandb\n"
    else:
        assert found.startswith(f'Error: {feature[package]} needs {package}.\n  Install: pip install "{package}')


def test_without_torch_help_works_and_a_run_says_what_to_install(prepared: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nsys.argv = ['dpo-train', *sys.argv[1:]]\n"
        "from dpo_train.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout.startswith("Usage")
    ran = subprocess.run([*command, "--data", str(prepared)], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith('Error: dpo-train needs torch.\n  Install: pip install "torch>=')


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which fp16 is what it says")
def test_fp16_without_a_gpu_is_refused(words: list[Any]) -> None:
    assert refusal(*words, "--fp16") == "Error: --fp16 has no effect without a GPU; pass --bf16 instead, or neither.\n"


@pytest.mark.parametrize("option", ["--model", "--reference"])
def test_a_mistyped_folder_is_refused_at_once_with_the_nearest_one(
    words: list[Any], model_folder: Path, option: str
) -> None:
    wrong = str(model_folder).replace("tiny", "tinny")
    assert refusal(*words, option, wrong) == (
        f"Error: {wrong}: there is no such folder.\n  Did you mean {model_folder}?\n"
        f"  Name a folder with the {'tokenizer' if option == '--model' else 'configuration'}, or a model on the Hub.\n"
    )


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_folder_without_weights_is_refused_at_once(words: list[Any], tmp_path: Path, dry_run: bool) -> None:
    make_tiny_tokenizer().save_pretrained(tmp_path / "empty")
    assert refusal(*words, "--model", tmp_path / "empty", *(["--dry-run"] if dry_run else [])) == (
        f"Error: {tmp_path / 'empty'}: has no weights: no *.safetensors file.\n  Name the folder of a saved model.\n"
    )


def test_a_chat_template_that_is_not_text_is_refused(words: list[Any], tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_bytes(b"\xff{{ messages }}")
    assert refusal(*words, "--chat-template", template).startswith(f"Error: {template}: cannot be read: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lerning_rate: 1\n", "there is no option lerning_rate.\n  Did you mean learning_rate?"),
        ("- a\n", "must map option names to values, but holds a list."),
        ("max_steps: [1, 2]\n", "max_steps takes one value, not a list."),
        (None, "there is no such file."),
    ],
)
def test_a_bad_file_of_options_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_text(content)
    assert refusal("--config", file) == f"Error: {file}: {message}\n"


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("a: [1\n")
    assert refusal("--config", file).startswith(f"Error: {file}: cannot be read as YAML: ")


def test_a_wrong_value_of_a_file_is_shown_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: prepared\nmax_steps: many\n")
    assert f"Invalid value for '--max-steps': {file}: many: " in refusal("--config", file)


def test_the_user_chooses_between_several_token_caches(words: list[Any], prepared: Path, model_folder: Path) -> None:
    caches = [tokenize(prepared, tokenizer=model_folder, max_length=length) for length in (20, 30)]
    found = refusal(*words)
    for cache, length in zip(caches, (20, 30), strict=True):
        assert f"--tokens {cache.manifest.key}    max_length {length}, keep_end, truncate" in found
    chosen = dpo_train(*words, "--tokens", caches[1].manifest.key)
    assert f"tokens     {caches[1].path}\n" in chosen.stderr


@pytest.mark.parametrize("by_key", [True, False])
def test_tokens_of_another_tokenizer_are_refused_naming_both(
    words: list[Any], prepared: Path, model_folder: Path, tmp_path: Path, by_key: bool
) -> None:
    other = tmp_path / "other"
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(other)
    cache = tokenize(prepared, tokenizer=other)
    found = refusal(*words, *(("--tokens", cache.manifest.key) if by_key else ()))
    assert 'tokens were made with tokenizer "other"' in found
    assert f'the model uses "{model_folder}"' in found
    assert f"dpo-data tokenize {prepared} --tokenizer {model_folder}" in found


def test_several_processes_do_not_tokenize(prepared: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ("--data", prepared, "--model", model_folder)
    assert (
        f"dpo-data tokenize {prepared} --tokenizer {model_folder} --max-length 20 --truncation-mode keep_start\n"
    ) in refusal(*words, "--max-length", 20, "--truncation-mode", "keep_start")


def test_several_processes_must_divide_the_batch(words: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert refusal(*words) == "Error: --batch-size 8: cannot be split evenly over 3 processes.\n"


def test_an_output_that_is_a_file_is_refused(words: list[Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(*words, "--output", tmp_path / "file") == (
        f"Error: --output {tmp_path / 'file'}: is a file; name a folder.\n"
    )


def test_ctrl_c_ends_with_130_and_says_how_to_resume(words: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpo_train.run.train.run", interrupted)
    result = dpo_train(*words)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "Stopped.\n  Resume from the latest checkpoint, if one was saved: --resume.\n"


def test_a_package_that_an_option_of_transformers_needs_is_named(words: list[Any]) -> None:
    lines = refusal(*words, "--use-liger-kernel").splitlines()
    assert lines[0] == "Error: --use-liger-kernel needs liger_kernel."
    assert lines[1].startswith("  Install: pip install ")


def test_the_first_line_of_a_run_comes_before_torch_is_loaded(prepared: Path, model_folder: Path) -> None:
    code = (
        "import sys\nsys.argv = ['dpo-train', *sys.argv[1:]]\n"
        "class Stop:\n    def find_spec(self, name, *_):\n"
        "        if name == 'transformers':\n            raise SystemExit(3)\n"
        "from dpo_train.cli import main\nsys.meta_path.insert(0, Stop())\nmain()"
    )
    command = [sys.executable, "-c", code, "--data", str(prepared), "--model", str(model_folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "loading    torch and transformers\n")
