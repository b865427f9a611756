"""The learning rate of each step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import make_pairs, make_tiny_model
from transformers import TrainingArguments

from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]


def learning_rates(args: Any) -> list[float]:
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=make_pairs(12))
    trainer.train()
    return [record["learning_rate"] for record in trainer.state.log_history if "loss" in record]


def test_the_warmup_begins_above_0_so_that_the_first_step_trains(config: Config) -> None:
    found = learning_rates(config(max_steps=6, warmup_steps=2, learning_rate=1.2e-3))
    assert found == pytest.approx([0.4e-3, 0.8e-3, 1.2e-3, 0.9e-3, 0.6e-3, 0.3e-3])


def test_without_a_warmup_the_learning_rate_begins_at_its_peak(config: Config) -> None:
    assert learning_rates(config(max_steps=2, warmup_steps=0)) == pytest.approx([1e-3, 0.5e-3])


def test_a_schedule_that_is_named_is_that_of_transformers(config: Config) -> None:
    found = learning_rates(config(max_steps=4, warmup_steps=2, lr_scheduler_type="linear"))
    assert found == pytest.approx([0, 0.5e-3, 1e-3, 0.5e-3])


def test_training_arguments_have_the_schedule_of_transformers(tmp_path: Path) -> None:
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, max_steps=4, warmup_steps=2, learning_rate=1e-3, logging_steps=1,
        per_device_train_batch_size=4, report_to="none", save_strategy="no",
    )  # fmt: skip
    assert learning_rates(args) == pytest.approx([0, 0.5e-3, 1e-3, 0.5e-3])


def test_a_resumed_run_has_the_schedule_of_an_uninterrupted_one(config: Config, tmp_path: Path) -> None:
    args = config(max_steps=6, warmup_steps=3, save_strategy="steps", save_steps=2)
    straight = learning_rates(args)
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=make_pairs(12))
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    assert [record["learning_rate"] for record in trainer.state.log_history if "loss" in record] == straight
