"""What a run reads: several prepared folders, and the lines that say what is trained on."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from toys import make_text_pairs
from train_cli import QUICK, dpo_train

from dpo_data import convert


def another(folder: Path, first: int, last: int, **options: Any) -> Path:
    """Write a prepared folder of some text pairs without a test split."""
    raw = folder.with_suffix(".jsonl")
    make_text_pairs(last).select(range(first, last)).to_json(raw)
    convert("pairs", [raw], output=folder, **options)
    return folder


def test_several_folders_are_trained_on_together(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    other = another(tmp_path / "other", 40, 52)
    result = dpo_train(
        "--data", prepared, "--data", other, "--model", model_folder, "--output", tmp_path / "run", *QUICK
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert "pairs      train 43, test 9" in lines
    assert "truncated  to 1024 tokens: nothing" in lines
    assert "template   none: the pairs are text" in lines
    assert sum(line.startswith("tokens     ") for line in lines) == 2
    assert str(other) in (tmp_path / "run/report.html").read_text()
    trained = pq.read_table(tmp_path / "run/pairs.parquet").to_pylist()  # 6 steps of 8 pairs are more than one epoch
    assert len({pair["id"] for pair in trained if pair["split"] == "train"}) == 43


def test_folders_with_other_options_are_refused_naming_what_differs(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    other = another(tmp_path / "other", 40, 44)
    words = ["--model", model_folder, "--output", tmp_path / "run", *QUICK, "--dry-run"]
    for folder, length in ((prepared, 60), (other, 50)):
        assert dpo_train("--data", folder, *words[:4], *QUICK, "--max-steps", 1, "--max-length", length).exit_code == 0
        words[3] = tmp_path / f"run{length}"
    result = dpo_train("--data", prepared, other, *words)
    assert result.exit_code == 2
    assert "cannot be trained on together: they differ in max_length 60 and 50." in result.stderr


def test_truncated_and_dropped_pairs_are_said(prepared: Path, model_folder: Path, tmp_path: Path) -> None:
    words = ["--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, "--max-steps", 1]
    result = dpo_train(*words, "--max-length", 20)
    assert result.exit_code == 0, result.stderr
    [line] = [line for line in result.stderr.splitlines() if line.startswith("truncated")]
    assert " prompts by " in line
    assert " responses by " in line
    assert line.startswith("truncated  to 20 tokens: ")


@pytest.mark.parametrize("option", ["--model", "--reference", "--data"])
def test_a_run_does_not_replace_what_it_reads(prepared: Path, model_folder: Path, tmp_path: Path, option: str) -> None:
    words = {"--data": prepared, "--model": model_folder, "--reference": model_folder}
    result = dpo_train(*(word for pair in words.items() for word in pair), "--output", words[option], *QUICK)
    assert result.exit_code == 2
    assert "the run would overwrite it: " in result.stderr


def test_overwriting_a_run_does_not_delete_the_checkpoint_that_is_trained(
    prepared: Path, model_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-3").mkdir(parents=True)
    for file in model_folder.iterdir():
        (run / "checkpoint-3" / file.name).write_bytes(file.read_bytes())
    result = dpo_train("--data", prepared, "--model", run / "checkpoint-3", "--output", run, "--overwrite", *QUICK)
    assert result.exit_code == 2
    assert (run / "checkpoint-3/config.json").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            ["--eval-steps", 2, "--load-best-model-at-end", "--metric-for-best-model", "rewards/acuracies"],
            "evaluations have no such metric.\n  Did you mean rewards/accuracies?",
        ),
        (["--optim", "galore_adamw", "--optim-target-modules", "attn"], "--optim galore_adamw needs galore_torch."),
        (["--use-liger-kernel"], "--use-liger-kernel needs liger_kernel."),
        (["--push-to-hub"], "--push-to-hub: needs "),
        (["--fsdp", "full_shard"], "--fsdp distributes a model over several processes, and this is the only one."),
    ],
)
def test_what_is_missing_is_refused_at_the_start(
    prepared: Path, model_folder: Path, tmp_path: Path, extra: list[Any], message: str
) -> None:
    words = ["--data", prepared, "--model", model_folder, "--output", tmp_path / "run", *QUICK, "--dry-run"]
    result = dpo_train(*words, *extra)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
