"""Policies from model_init, and the trials of a hyperparameter search."""

import math
from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_tiny_model

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]


def try_out(trainer: DPOTrainer, **values: Any) -> float:
    """Train and evaluate with the values of a trial, which transformers sets like this; return the evaluation loss."""
    for name, value in values.items():
        setattr(trainer.args, name, value)
    trainer.objective = None
    trainer.train()
    return float(trainer.evaluate()["eval_loss"])


def first_record(trainer: DPOTrainer) -> dict[str, float]:
    return next(record for record in trainer.state.log_history if "loss" in record)


@pytest.mark.parametrize("attention_path", ["auto", "padded"])
@pytest.mark.parametrize("values", [{"beta": 2.0}, {"loss_type": "ipo"}, {"learning_rate": 1e-2}])
def test_a_trial_gives_what_a_run_with_its_values_gives(
    config: Config, pairs: datasets.Dataset, values: dict[str, Any], attention_path: str
) -> None:
    data: dict[str, Any] = {"train_dataset": pairs, "eval_dataset": make_pairs(5, seed=1)}
    searched = DPOTrainer(model_init=make_tiny_model, args=config(attention_path=attention_path), **data)
    try_out(searched, beta=0.5)  # an earlier trial leaves nothing behind
    loss = try_out(searched, **{"beta": 0.1} | values)

    alone = DPOTrainer(make_tiny_model(), args=config(attention_path=attention_path, **values), **data)
    alone.train()
    assert loss == pytest.approx(alone.evaluate()["eval_loss"], rel=1e-6)
    assert searched.beta == alone.beta
    assert searched.loss_type == alone.loss_type


def test_every_trial_starts_as_its_own_reference(config: Config, pairs: datasets.Dataset) -> None:
    seeds = iter(range(10))
    trainer = DPOTrainer(
        model_init=lambda: make_tiny_model(next(seeds)), args=config(), train_dataset=pairs, eval_dataset=pairs
    )
    for _ in range(2):
        try_out(trainer)
        assert first_record(trainer)["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert first_record(trainer)["rewards/margins"] == 0


def test_a_policy_that_model_init_draws_anew_is_its_own_reference(config: Config, pairs: datasets.Dataset) -> None:
    seeds = iter(range(10))
    trainer = DPOTrainer(model_init=lambda: make_tiny_model(next(seeds)), args=config(), train_dataset=pairs)
    trainer.train()
    assert first_record(trainer)["rewards/margins"] == 0


def test_the_objective_of_a_search_is_the_evaluation_loss(config: Config, pairs: datasets.Dataset) -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainer = DPOTrainer(model_init=make_tiny_model, args=config(), train_dataset=pairs, eval_dataset=pairs)
    betas = [0.1, 5.0]
    best = trainer.hyperparameter_search(
        lambda trial: {"beta": trial.suggest_categorical("beta", betas)},
        backend="optuna",
        n_trials=2,
        direction="minimize",
        sampler=optuna.samplers.GridSampler({"beta": betas}),
    )
    losses = [try_out(trainer, beta=beta) for beta in betas]
    assert best.objective == pytest.approx(min(losses), rel=1e-6)
    assert best.hyperparameters == {"beta": betas[losses.index(min(losses))]}


def test_several_evaluation_sets_need_an_objective(config: Config, pairs: datasets.Dataset) -> None:
    pytest.importorskip("optuna")
    trainer = DPOTrainer(
        model_init=make_tiny_model, args=config(), train_dataset=pairs, eval_dataset={"a": pairs, "b": pairs}
    )
    with pytest.raises(UsageError, match="compute_objective"):
        trainer.hyperparameter_search(lambda trial: {}, backend="optuna", n_trials=1)


def test_the_reference_of_a_search_may_be_given(config: Config, pairs: datasets.Dataset) -> None:
    reference = make_tiny_model(1)
    before = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    trainer = DPOTrainer(
        model_init=make_tiny_model, ref_model=reference, args=config(), train_dataset=pairs, eval_dataset=pairs
    )
    losses = [try_out(trainer, beta=0.3) for _ in range(2)]
    assert losses[0] == losses[1]
    assert all(torch.equal(before[name], tensor) for name, tensor in reference.state_dict().items())
