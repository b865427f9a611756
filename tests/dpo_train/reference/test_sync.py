"""TR-DPO: a reference that moves toward the policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import make_tiny_model
from transformers import TrainerCallback

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]


def trainer_of(config: Config, pairs: datasets.Dataset, **options: Any) -> DPOTrainer:
    args = config(**{"sync_ref_model": True, "ref_model_sync_steps": 2, "max_steps": 4, **options})
    return DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)


def test_the_reference_is_the_mean_of_policy_and_old_reference_at_each_interval(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = trainer_of(config, pairs, ref_model_mixup_alpha=0.25)
    expected = {name: weight.clone() for name, weight in trainer.ref_model.named_parameters()}

    class Recorder(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step in (2, 4):
                for name, weight in kwargs["model"].named_parameters():
                    expected[name] = 0.25 * weight.detach() + 0.75 * expected[name]

    trainer.add_callback(Recorder())
    trainer.train()
    for name, weight in trainer.ref_model.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-7)


def test_with_alpha_1_the_reference_is_the_policy_and_margins_begin_at_0_again(
    config: Config, pairs: datasets.Dataset
) -> None:
    trainer = trainer_of(config, pairs, ref_model_mixup_alpha=1.0, learning_rate=1e-2)
    trainer.train()
    margins = [abs(record["rewards/margins"]) for record in trainer.state.log_history if "rewards/margins" in record]
    assert margins[2] < 1e-5 < margins[3]


def test_a_resumed_run_continues_with_the_reference_of_its_checkpoint(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    options = {"save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-2}
    straight = trainer_of(config, pairs, **options, output_dir=str(tmp_path / "straight"))
    straight.train()
    resumed = trainer_of(config, pairs, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-3"))
    for model in ("model", "ref_model"):
        for name, weight in getattr(straight, model).named_parameters():
            assert torch.equal(weight, getattr(resumed, model).get_parameter(name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precompute_reference": True}, "the reference changes, so its values cannot be stored"),
        ({"reference_cache": "reference"}, "the reference changes, so its values cannot be stored"),
        ({"ref_model_mixup_alpha": 0.0}, r"ref_model_mixup_alpha=0.0: must be in \(0, 1\]"),
        ({"ref_model_sync_steps": 0}, "ref_model_sync_steps=0: must be at least 1"),
        ({"loss_type": "simpo"}, "there is no reference to move"),
        ({"reference_free": True}, "there is no reference to move"),
        ({"sync_ref_model": False}, "ref_model_sync_steps=2: has no effect without sync_ref_model=True"),
    ],
)
def test_options_that_contradict_a_moving_reference_are_refused(
    config: Config, pairs: datasets.Dataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        trainer_of(config, pairs, **options)


def test_an_adapter_is_refused(config: Config, pairs: datasets.Dataset) -> None:
    pytest.importorskip("peft")
    args = config(sync_ref_model=True)
    with pytest.raises(UsageError, match="mixes the weights of policy and reference"):
        DPOTrainer(
            make_tiny_model(), args=args, train_dataset=pairs, peft_config={"r": 2, "target_modules": ["q_proj"]}
        )
