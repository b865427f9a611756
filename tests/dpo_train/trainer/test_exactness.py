"""Runs that must be equal (resumed or not, with the same seed), and runs that must stop or warn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_tiny_model

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.diagnosis import NotFiniteError

Config = Callable[..., DPOConfig]

#: Values that differ from run to run.
TIMES = {"train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"}


def train(args: DPOConfig, pairs: datasets.Dataset, resume: Path | bool | None = None) -> DPOTrainer:
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs)
    trainer.train(resume_from_checkpoint=str(resume) if isinstance(resume, Path) else resume)
    return trainer


def logged(trainer: DPOTrainer) -> list[dict[str, Any]]:
    return [record for record in trainer.state.log_history if not TIMES & set(record)]


def assert_equal_bitwise(one: DPOTrainer, other: DPOTrainer) -> None:
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    states = [trainer.optimizer.state_dict()["state"] for trainer in (one, other)]
    for index, state in states[0].items():
        assert all(torch.equal(value, states[1][index][key]) for key, value in state.items())
    assert logged(one) == logged(other)


@pytest.mark.parametrize(("saved_at", "micro_batch"), [(1, 4), (3, 1), (4, 4), (5, 4), (7, 1)])
def test_a_resumed_run_equals_the_straight_one_bitwise(
    config: Config, tmp_path: Path, saved_at: int, micro_batch: int
) -> None:
    """Ten pairs in steps of 4: an epoch has three steps, the last of 2 pairs. With a log every three steps, checkpoints
    are between logs, at the end of an epoch and in its middle."""
    options = {
        "max_steps": 8,
        "logging_steps": 3,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": 4 // micro_batch,
    }
    pairs = make_pairs(10)
    straight = train(config(**options, output_dir=str(tmp_path / "straight")), pairs)
    saving = config(**options, save_strategy="steps", save_steps=saved_at, output_dir=str(tmp_path / "saved"))
    train(saving, pairs)
    resumed = train(config(**options), pairs, resume=tmp_path / "saved" / f"checkpoint-{saved_at}")
    assert_equal_bitwise(resumed, straight)


def test_resume_true_uses_the_latest_complete_checkpoint(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    args = config(max_steps=3, save_strategy="steps", save_steps=1)
    straight = train(args, pairs)
    for name in ("trainer_state.json", "checkpoint_manifest.json"):  # which are written last
        (Path(args.output_dir) / "checkpoint-3" / name).unlink()
    assert_equal_bitwise(train(args, pairs, resume=True), straight)


def test_a_checkpoint_that_a_kill_cut_off_is_not_the_latest(config: Config, pairs: datasets.Dataset) -> None:
    args = config(max_steps=2, save_strategy="steps", save_steps=1)
    straight = train(args, pairs)
    cut_off = Path(args.output_dir) / "checkpoint-2"
    (cut_off / "checkpoint_manifest.json").unlink()
    (cut_off / "trainer_state.json").write_text('{"epoch": 0.5, "log_hist')
    assert_equal_bitwise(train(args, pairs, resume=True), straight)


def test_resuming_a_finished_run_changes_nothing(config: Config, pairs: datasets.Dataset) -> None:
    args = config(max_steps=4, save_strategy="steps", save_steps=4)
    finished = train(args, pairs)
    resumed = train(args, pairs, resume=True)
    assert resumed.state.global_step == 4
    assert_equal_bitwise(resumed, finished)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_checkpoint_without_a_state_file_is_refused(config: Config, pairs: datasets.Dataset, name: str) -> None:
    args = config(max_steps=1, save_strategy="steps", save_steps=1)
    train(args, pairs)
    (Path(args.output_dir) / "checkpoint-1" / name).unlink()
    with pytest.raises(UsageError, match="is missing"):
        train(args, pairs, resume=True)


def test_runs_are_equal_with_the_same_seed_and_differ_with_another(config: Config, pairs: datasets.Dataset) -> None:
    one, same, other = (train(config(seed=seed), pairs) for seed in (1, 1, 2))
    assert_equal_bitwise(one, same)
    assert logged(one) != logged(other)


def test_a_nan_loss_stops_the_run_and_names_the_pair(config: Config, pairs: datasets.Dataset) -> None:
    """Only the prompt of the sixth pair has id 61, whose embedding is NaN; it is in the second step of four pairs."""
    broken = pairs.map(lambda row, index: {"prompt_ids": [61] if index == 5 else row["prompt_ids"]}, with_indices=True)
    model = make_tiny_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[61] = float("nan")
    args = config(train_sampling_strategy="sequential", logging_steps=50)
    with pytest.raises(NotFiniteError) as caught:
        DPOTrainer(model, make_tiny_model(), args=args, train_dataset=broken).train()
    assert str(caught.value).startswith(
        "toy.jsonl:6: the loss of this pair is NaN or infinite, at step 2; training stops."
    )


def test_a_broken_run_saves_no_checkpoint(config: Config, pairs: datasets.Dataset) -> None:
    args = config(save_strategy="steps", save_steps=1, logging_steps=50, logging_first_step=False)
    model = make_tiny_model()
    with torch.no_grad():
        model.lm_head.weight[14] = float("inf")
    with pytest.raises(NotFiniteError):
        DPOTrainer(model, make_tiny_model(), args=args, train_dataset=pairs).train()
    assert not list(Path(args.output_dir).glob("checkpoint-*/trainer_state.json"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"learning_rate": 0.0}, "the learning rate is 0"), ({"beta": 0.0}, "beta is 0, and so is the gradient")],
)
def test_a_run_that_does_not_learn_warns_once_with_the_reason(
    config: Config,
    pairs: datasets.Dataset,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, float],
    reason: str,
) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(max_steps=7, **options), train_dataset=pairs)
    trainer.train()
    assert caplog.text.count("steps the loss is still 0.6931: " + reason) == 1


def test_a_run_that_learns_logs_no_warning(
    config: Config, pairs: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(max_steps=7), train_dataset=pairs)
    trainer.train()
    assert caplog.text == ""
