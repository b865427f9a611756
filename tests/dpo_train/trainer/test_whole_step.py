"""Losses over several pairs: over the optimizer step, whatever its micro-batches, and over the evaluation set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from toys import make_tiny_model

from dpo_train import LOSSES, DPOConfig, DPOTrainer
from dpo_train.losses import STEP_LOSSES
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]
LOSS_TYPES: list[Any] = [*sorted(STEP_LOSSES), ["sigmoid", "bco_pair", "sft"]]


def trained(args: DPOConfig, pairs: datasets.Dataset, resume: Path | None = None) -> DPOTrainer:
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def losses_of(trainer: DPOTrainer) -> list[float]:
    return [record["loss"] for record in trainer.state.log_history if "loss" in record]


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("path", ["padded", "shared"])
def test_a_step_does_not_depend_on_its_micro_batches(
    config: Config, pairs: datasets.Dataset, loss_type: Any, path: str
) -> None:
    options = {"loss_type": loss_type, "attention_path": path, "max_steps": 2, "max_grad_norm": 0.0}
    whole = trained(config(**options, per_device_train_batch_size=8), pairs)
    split = config(
        **options, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_tokens_per_microbatch=40
    )
    in_parts = trained(split, pairs)
    assert losses_of(in_parts) == pytest.approx(losses_of(whole), rel=1e-5)
    torch.testing.assert_close(in_parts.model.state_dict(), whole.model.state_dict(), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_step_is_that_of_its_loss_as_a_whole(config: Config, pairs: datasets.Dataset) -> None:
    """The loss of one padded batch of all pairs, by autograd through the sorted log-ratios."""
    options = {"loss_type": "aot", "learning_rate": 0.0, "max_steps": 1, "max_grad_norm": 0.0, "beta": 0.3}
    gradients = {}

    class Recorder(DPOTrainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            loss = super().training_step(*args, **kwargs)
            for name, parameter in self.model.named_parameters():
                assert parameter.grad is not None
                gradients[name] = parameter.grad.clone()
            return loss

    args = config(**options, per_device_train_batch_size=3, gradient_accumulation_steps=4, attention_path="padded")
    policy, reference = make_tiny_model(), make_tiny_model(1)
    Recorder(policy, reference, args=args, train_dataset=pairs).train()

    def logps(model: Any, side: str) -> torch.Tensor:
        values = []
        for row in pairs:
            prompt, response = row["prompt_ids"], row[f"{side}_ids"]
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0].log_softmax(-1)
            positions = range(len(prompt) - 1, len(prompt) + len(response) - 1)
            values.append(sum(logits[position, token] for position, token in zip(positions, response, strict=True)))
        return torch.stack(values)

    fresh = make_tiny_model()
    policy_margins = logps(fresh, "chosen") - logps(fresh, "rejected")
    reference_margins = (logps(reference, "chosen") - logps(reference, "rejected")).detach()
    delta = policy_margins.sort().values - reference_margins.sort().values
    (-torch.nn.functional.logsigmoid(0.3 * delta)).mean().backward()
    for name, parameter in fresh.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_evaluation_is_over_all_pairs(config: Config, pairs: datasets.Dataset, loss_type: Any) -> None:
    found = []
    for size in (2, 5, 64):
        args = config(loss_type=loss_type, per_device_eval_batch_size=size)
        trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, eval_dataset=pairs)
        found.append(trainer.evaluate()["eval_loss"])
    assert found == pytest.approx([found[0]] * 3, rel=1e-5)


def test_the_running_mean_is_over_all_pairs_so_far_and_survives_a_checkpoint(
    config: Config, pairs: datasets.Dataset, tmp_path: Path
) -> None:
    options = {"loss_type": "bco_pair", "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    straight = trained(config(**options, output_dir=str(tmp_path / "straight")), pairs)
    resumed = trained(config(**options), pairs, tmp_path / "straight" / "checkpoint-2")
    assert losses_of(resumed) == losses_of(straight)
    for name, tensor in resumed.model.state_dict().items():
        assert torch.equal(tensor, straight.model.state_dict()[name])

    steps, _, table = straight.pair_metrics.history()
    values = dict(zip(COLUMNS, table.T, strict=True))
    chosen, rejected = (values[f"logps/{side}"] - values[f"reference_logps/{side}"] for side in ("chosen", "rejected"))
    for step in range(1, 5):
        so_far, now = steps <= step, steps == step
        mean = (chosen[so_far].mean() + rejected[so_far].mean()) / 2
        expected = np.log1p(np.exp(-0.1 * (chosen[now] - mean))) + np.log1p(np.exp(0.1 * (rejected[now] - mean)))
        np.testing.assert_allclose(values["loss"][now], expected, rtol=1e-4)


def test_a_loss_of_the_user_may_be_over_the_step(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spread(chosen_logratios: torch.Tensor, *, spread_scale: float = 1.0) -> torch.Tensor:
        return spread_scale * (chosen_logratios - chosen_logratios.mean()) ** 2

    monkeypatch.setitem(LOSSES, "spread", spread)
    monkeypatch.setattr("dpo_train.losses.STEP_LOSSES", STEP_LOSSES)
    STEP_LOSSES.add("spread")
    found = []
    for size, accumulated in ((8, 1), (2, 4)):
        args = config(loss_type="spread", per_device_train_batch_size=size, gradient_accumulation_steps=accumulated)
        args.spread_scale = 3.0
        found.append(losses_of(trained(args, pairs)))
    STEP_LOSSES.discard("spread")
    assert found[0] == pytest.approx(found[1], rel=1e-4)
