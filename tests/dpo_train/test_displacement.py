"""The displacement guard, on planted records and in runs."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
from toys import make_tiny_model
from transformers import TrainerControl, TrainerState

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.displacement import DisplacementGuard
from dpo_train.trainer.metrics import COLUMNS

Config = Callable[..., DPOConfig]
COLLAPSE = [(0.0, 0.0), (-0.2, 0.5), (-0.4, 1.0), (-0.6, 1.5), (-0.9, 2.0)]


def record(step: int, chosen: float, margin: float) -> dict[str, float]:
    return {"step": step, "logratios/chosen_per_token": chosen, "rewards/margins": margin}


def warnings_of(records: list[tuple[float, float]]) -> list[int]:
    """Return the steps at which the guard warns, of records of chosen log-ratio per token and margin."""
    guard = DisplacementGuard("warn", lambda: None)
    return [step for step, each in enumerate(records, 1) if guard.find(record(step, *each))]


def test_a_collapse_of_chosen_under_a_growing_margin_is_found_once() -> None:
    assert warnings_of(COLLAPSE) == [4]


@pytest.mark.parametrize(
    "records",
    [
        [(0.0, 0.0), (0.1, 0.5), (0.3, 1.0), (0.4, 2.0)],  # chosen rises
        [(0.0, 0.0), (-0.05, 0.5), (-0.1, 1.0), (-0.2, 2.0)],  # chosen falls a little, as in the usual recipes
        [(0.0, 0.0), (-0.4, 0.5), (-0.8, 0.4), (-1.2, 0.3)],  # the margin does not grow: another problem
        [(0.0, 0.0), (-0.7, 0.5), (-0.3, 1.0), (-0.6, 1.5), (-0.5, 2.0)],  # noise between batches
    ],
)
def test_healthy_runs_are_silent(records: list[tuple[float, float]]) -> None:
    assert warnings_of(records) == []


def test_the_fall_is_measured_from_the_first_record() -> None:
    """Without a reference, log-ratios are log-probabilities, and with another model they do not begin at 0."""
    assert warnings_of([(-2.5, 0.0), (-2.6, 0.5), (-2.7, 1.0), (-2.8, 1.5)]) == []
    assert warnings_of([(-2.5, 0.0), (-2.8, 0.5), (-2.9, 1.0), (-3.1, 1.5)]) == [4]


@pytest.mark.parametrize(("seen", "added"), [(3, 0), (4, 1)])
def test_a_resumed_run_continues_after_the_records_of_its_checkpoint(seen: int, added: int) -> None:
    calls: list[str] = []
    guard = DisplacementGuard("sft", lambda: calls.append("sft"))
    history = [{"step": 0, "eval_loss": 0.7}, *(record(step, *each) for step, each in enumerate(COLLAPSE[:seen], 1))]
    state, control = TrainerState(log_history=history), TrainerControl()
    guard.on_train_begin(None, state, control)
    assert len(calls) == added
    state.log_history.append(record(seen + 1, *COLLAPSE[seen]))
    guard.on_log(None, state, control)
    assert len(calls) == 1
    assert not control.should_training_stop


def trained(config: Config, pairs: datasets.Dataset, **options: Any) -> DPOTrainer:
    """Train with apo_down, which lowers chosen too: at this learning rate, without end."""
    constant = {"lr_scheduler_type": "constant", "warmup_steps": 0, "per_device_train_batch_size": 12}
    args = config(**{**constant, "max_steps": 8, "learning_rate": 1e-2, "loss_type": "apo_down", **options})
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
    trainer.train()
    return trainer


def falls(trainer: DPOTrainer) -> list[float]:
    return [each["logratios/chosen_per_token"] for each in trainer.state.log_history if "rewards/margins" in each]


def test_a_planted_collapse_is_warned_about_stops_or_gets_the_loss_sft(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("dpo_train.displacement.logger.warning", said.append)
    warned = trained(config, pairs)
    assert [message.partition(",")[0] for message in said] == ["At step 3"]
    stopped = trained(config, pairs, on_displacement="stop")
    assert (warned.state.global_step, stopped.state.global_step) == (8, 3)
    helped = trained(config, pairs, on_displacement="sft")
    assert helped.loss_type == "apo_down + sft"
    assert falls(warned)[-1] < falls(warned)[2] < 0 < falls(helped)[-1]


def test_a_run_that_raises_chosen_is_silent(
    config: Config, pairs: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("dpo_train.displacement.logger.warning", said.append)
    trained(config, pairs, loss_type="sigmoid", learning_rate=1e-3)
    assert said == []


def test_chosen_per_token_is_measured_for_each_pair(config: Config, pairs: datasets.Dataset) -> None:
    trainer = trained(config, pairs, max_steps=1)
    _, rows, table = trainer.pair_metrics.history()
    values = dict(zip(COLUMNS, table.T, strict=True))
    tokens = [len(pairs[int(row)]["chosen_ids"]) for row in rows]
    np.testing.assert_allclose(values["logps/chosen_per_token"], values["logps/chosen"] / tokens, rtol=1e-6)
    ratio = (values["logps/chosen"] - values["reference_logps/chosen"]) / tokens
    np.testing.assert_allclose(values["logratios/chosen_per_token"], ratio, atol=1e-6)


def test_the_loss_sft_is_not_added_to_a_loss_that_has_it(config: Config, pairs: datasets.Dataset) -> None:
    with pytest.raises(UsageError) as caught:
        trained(config, pairs, on_displacement="sft", loss_type="rpo")
    assert str(caught.value) == "on_displacement=sft: the loss rpo has the loss sft already."


def test_lengths_and_kl_are_measured_for_each_pair(config: Config, pairs: datasets.Dataset) -> None:
    trainer = trained(config, pairs, max_steps=3)
    _, rows, table = trainer.pair_metrics.history()
    values = dict(zip(COLUMNS, table.T, strict=True))
    chosen, rejected = ([len(pairs[int(row)][f"{side}_ids"]) for row in rows] for side in ("chosen", "rejected"))
    assert values["lengths/chosen"].tolist() == chosen
    assert values["lengths/rejected"].tolist() == rejected
    margins = values["rewards/margins"].tolist()
    preferred = [
        one if margin > 0 else other if margin < 0 else (one + other) / 2
        for one, other, margin in zip(chosen, rejected, margins, strict=True)
    ]
    assert values["lengths/preferred"].tolist() == preferred
    assert 0 in margins
    assert any(margins)
    ratios = [values[f"reference_logps/{side}"] - values[f"logps/{side}"] for side in ("chosen", "rejected")]
    np.testing.assert_allclose(values["kl/responses"], (ratios[0] + ratios[1]) / 2, atol=1e-5)
