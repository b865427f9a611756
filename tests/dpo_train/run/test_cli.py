"""dpo-train as a user meets it: files, standard output, standard error, exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
import torch
from toys import make_tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from dpo_data import convert
from dpo_data.tokens.cache import tokenize
from dpo_train.cli import app

QUICK = ("--use-cpu", "--max-steps", "6", "--batch-size", "8", "--learning-rate", "1e-3", "--logging-steps", "2")


def dpo_train(*words: Any) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Trained(NamedTuple):
    """A run that tests look at, and leave as it is.

    Attributes:
        folder: what it wrote.
        data: the prepared folder that it read.
        result: exit code and what was printed.
    """

    folder: Path
    data: Path
    result: Result


@pytest.fixture(scope="module")
def trained(raw_pairs: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    data, run = folder / "prepared", folder / "run"
    convert("pairs", [raw_pairs], output=data, test_fraction=0.25)
    words = (*QUICK, "--generate-samples", 2, "--max-length", 60)
    result = dpo_train("--data", data, "--model", model_folder, "--output", run, *words)
    assert result.exit_code == 0, result.stderr
    return Trained(run, data, result)


def test_help_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from dpo_train.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'numpy', 'pydantic') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


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


def test_json_goes_to_standard_output_alone(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", run, "--json", *QUICK)
    found = json.loads(result.stdout)
    assert (found["steps"], found["output"]) == (6, str(run))
    assert found["after"]["eval_loss"] < found["before"]["eval_loss"]


def test_resuming_gives_the_records_and_weights_of_the_straight_run(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    common = ("--data", prepared, "--model", model_folder, *QUICK, "--save-steps", "3")
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert dpo_train(*common, "--output", straight).exit_code == 0
    shutil.copytree(straight, broken)
    for name in ("trainer_state.json",):
        (broken / "checkpoint-6" / name).unlink()  # as if it had been killed while it saved the last one
    result = dpo_train(*common, "--output", broken, "--resume")
    assert result.exit_code == 0, result.stderr
    assert f"resuming   {broken / 'checkpoint-3'}" in result.stderr
    weights = [AutoModelForCausalLM.from_pretrained(run).state_dict() for run in (straight, broken)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_options_of_a_file_count_and_those_of_the_command_line_come_on_top(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        f"data: {prepared}\nmodel: {model_folder}\nbatch_size: 4\nmax-steps: 3\nlearning_rate: 1e-3\nseed: 1\n"
    )
    result = dpo_train("--config", file, "--output", tmp_path / "run", "--batch-size", 8, "--use-cpu", "--json")
    assert result.exit_code == 0, result.stderr
    assert "batch      8 pairs a step\n" in result.stderr
    assert json.loads(result.stdout)["steps"] == 3


def test_an_unknown_option_of_a_file_is_refused_with_the_nearest_one(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("lerning_rate: 1\n")
    result = dpo_train("--config", file, "--data", prepared, "--model", model_folder, "--output", tmp_path / "run")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"{file}: there is no option lerning_rate.\n  Did you mean learning_rate?\n"


def test_an_unknown_option_is_refused_with_the_nearest_one(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", "--batchsize", 4)
    assert result.exit_code == 2
    assert result.stderr == "command line: there is no option batchsize.\n  Did you mean batch_size?\n"


def test_a_finished_run_is_not_overwritten_unless_asked(
    trained: Trained, prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(trained.folder, tmp_path / "run")
    words = ("--data", prepared, "--model", model_folder, "--output", run, *QUICK)
    refused = dpo_train(*words)
    assert refused.exit_code == 2
    assert refused.stderr == f"{run}: it holds a run already.\n  Go on with it: --resume. Replace it: --overwrite.\n"
    assert dpo_train(*words, "--overwrite").exit_code == 0


def test_a_model_folder_that_is_not_there_is_refused(prepared: Path, tmp_path: Path) -> None:
    result = dpo_train("--data", prepared, "--model", tmp_path / "nothing", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{tmp_path / 'nothing'}: there is no such folder.\n  --model takes the folder of a saved model.\n"
    )


def test_a_chat_template_that_is_no_text_is_refused(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_bytes(b"\xff{{ messages }}")
    words = ("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", "--chat-template", template)
    result = dpo_train(*words)
    assert result.exit_code == 2
    assert f"{template}: cannot be read" in result.stderr


def test_a_batch_that_cannot_be_cut_into_micro_batches_is_refused(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    words = ("--batch-size", 7, "--gradient-accumulation-steps", 2)
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert "--batch-size 7 over 1 processes is 7 pairs each: that is not 2 micro-batches of 3." in result.stderr


def test_the_only_token_cache_of_the_models_tokenizer_is_used(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    cache = tokenize(prepared, tokenizer=model_folder, max_length=20)
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert f"tokens     {cache.path}\n" in result.stderr


def test_of_several_token_caches_the_user_must_choose(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    caches = [tokenize(prepared, tokenizer=model_folder, max_length=length) for length in (20, 30)]
    words = ("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK)
    refused = dpo_train(*words)
    assert refused.exit_code == 2
    for cache, length in zip(caches, (20, 30), strict=True):
        assert f"--tokens {cache.manifest.key}    max_length {length}, keep_end, truncate" in refused.stderr
    chosen = dpo_train(*words, "--tokens", caches[1].manifest.key)
    assert f"tokens     {caches[1].path}\n" in chosen.stderr


@pytest.mark.parametrize("by_key", [True, False])
def test_tokens_of_another_tokenizer_are_refused_naming_both(
    prepared: Path, model_folder: Path, tmp_path: Path, by_key: bool
) -> None:
    other = tmp_path / "other"
    tokenizer = make_tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(other)
    cache = tokenize(prepared, tokenizer=other)
    words = ("--tokens", cache.manifest.key) if by_key else ()
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert 'tokens were made with tokenizer "other"' in result.stderr
    assert f'the model uses "{model_folder}"' in result.stderr
    assert f"dpo-data tokenize {prepared} --tokenizer {model_folder}" in result.stderr


def test_several_processes_do_not_tokenize(
    prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ("--max-length", 20, "--truncation-mode", "keep_start")
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert (
        f"Make it once, before: dpo-data tokenize {prepared} --tokenizer {model_folder} --max-length 20 "
        "--truncation-mode keep_start\n"
    ) in result.stderr


def test_a_run_leaves_a_card_a_report_with_samples_and_what_was_measured_of_every_pair(trained: Trained) -> None:
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


def test_supervised_tuning_then_preferences_are_two_commands(
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


def test_an_unknown_loss_is_refused_listing_all(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", "--loss", "dpo")
    assert result.exit_code == 2
    assert result.stderr.startswith("there is no loss dpo; choose from sigmoid, sigmoid_norm, hinge, ipo,")


def test_an_option_that_the_loss_does_not_have_is_refused(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ("--loss", "ipo", "--label-smoothing", "0.1")
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *words)
    assert result.exit_code == 2
    assert result.stderr.endswith("the loss ipo has no label_smoothing; its options: beta.\n")


def test_a_dry_run_says_what_would_run_and_writes_nothing(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = dpo_train(
        "--data", prepared, "--model", model_folder, "--output", run, "--batch-size", 4, "--dry-run", "--json"
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["steps"] == -(-found["pairs"]["train"] // 4)
    assert found["parameters"] == AutoModelForCausalLM.from_pretrained(model_folder).num_parameters()
    assert not run.exists()


def test_evaluation_alone_measures_a_model_against_a_reference(
    trained: Trained, model_folder: Path, tmp_path: Path
) -> None:
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


def test_early_stopping_ends_a_run_that_gets_no_better(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
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


def test_a_killed_run_resumes_to_what_the_straight_one_gives(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    """kill -9 while checkpoints are written after every step, so that one is mostly cut off."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    words = ["--data", prepared, "--model", model_folder, "--use-cpu", "--max-steps", 10, "--batch-size", 4]
    words += ["--learning-rate", "1e-3", "--save-steps", 1, "--save-total-limit", 3]
    command = [sys.executable, "-m", "dpo_train", *(str(word) for word in words), "--output", str(killed)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as here: sums depend on how they are split
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--load-in-4bit",),
            "--load-in-4bit freezes the weights, so that there is nothing to train: give --lora-r too.",
        ),
        (("--load-in-4bit", "--lora-r", 4, "--merge-adapter"), "--merge-adapter would merge into weights of four bits"),
        (
            ("--load-in-4bit", "--lora-r", 4),
            "--load-in-4bit needs the package bitsandbytes.\n  pip install bitsandbytes",
        ),
    ],
)
def test_four_bits_need_an_adapter_and_a_package(
    words: tuple[Any, ...],
    message: str,
    prepared: Path,
    model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name))
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, *words)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which fp16 is what it says")
def test_fp16_without_a_gpu_is_refused(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    result = dpo_train("--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, "--fp16")
    assert result.exit_code == 2
    assert "--fp16 would compute in float32 here" in result.stderr


def test_the_reference_is_stored_beside_the_data_unless_that_is_read_only(
    trained: Trained, prepared: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(trained.data.glob("reference/*/*.npy"))) > 0
    words = ("--data", prepared, "--model", model_folder, *QUICK, "--max-length", 60, "--output")
    monkeypatch.setattr("os.access", lambda path, mode: not (Path(path) == prepared and mode == os.W_OK))
    read_only = dpo_train(*words, tmp_path / "run")
    assert read_only.exit_code == 0, read_only.stderr
    assert not (prepared / "reference").exists()
