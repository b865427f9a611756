"""Weights of training pairs: normalized by their sum in a step; other columns never count."""

from collections.abc import Callable
from typing import Any

import datasets
import pytest
import torch
from toys import make_pairs, make_text_pairs, make_tiny_model, make_tiny_tokenizer

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer

Config = Callable[..., DPOConfig]
WEIGHTS = [2.0, 1.0, 1.0, 4.0, 1.0, 3.0, 1.0, 1.0]


@pytest.fixture
def weighted() -> datasets.Dataset:
    return make_pairs(8).add_column("confidence", WEIGHTS)


def trained(config: Config, pairs: Any, **options: Any) -> DPOTrainer:
    defaults = {"max_steps": 1, "learning_rate": 1e-2, "max_grad_norm": 0.0, "warmup_steps": 0}
    args = config(**{**defaults, "per_device_train_batch_size": 8, "pair_weights": "confidence", **options})
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, train_dataset=pairs)
    trainer.train()
    return trainer


def loss_of(trainer: DPOTrainer) -> float:
    return float(trainer.state.log_history[0]["loss"])


def test_a_pair_of_weight_2_counts_as_that_pair_twice(config: Config, weighted: datasets.Dataset) -> None:
    repeated = weighted.select([row for row, weight in enumerate(WEIGHTS) for _ in range(int(weight))])
    ours = trained(config, weighted)
    twice = trained(config, repeated, per_device_train_batch_size=14, pair_weights=None)
    assert loss_of(ours) == pytest.approx(loss_of(twice), rel=1e-5)
    torch.testing.assert_close(ours.model.state_dict(), twice.model.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("path", ["shared", "padded"])
@pytest.mark.parametrize("loss", ["sigmoid", "aot"])
def test_a_step_does_not_depend_on_its_micro_batches(
    config: Config, weighted: datasets.Dataset, path: str, loss: str
) -> None:
    options = {"attention_path": path, "loss_type": loss}
    whole = trained(config, weighted, **options)
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "max_tokens_per_microbatch": 40}
    parts = trained(config, weighted, **options, **split)
    assert loss_of(parts) == pytest.approx(loss_of(whole), rel=1e-5)
    torch.testing.assert_close(parts.model.state_dict(), whole.model.state_dict(), rtol=1e-4, atol=1e-5)


def test_weights_of_an_iterable_dataset_are_those_of_its_column(config: Config, weighted: datasets.Dataset) -> None:
    mapped = trained(config, weighted, attention_path="padded", train_sampling_strategy="sequential")
    streamed = trained(config, weighted.to_iterable_dataset())
    assert loss_of(streamed) == pytest.approx(loss_of(mapped), rel=1e-5)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_column_named_weight_counts_only_on_request(config: Config, is_stream: bool) -> None:
    pairs = make_pairs(8)
    named = pairs.add_column("weight", WEIGHTS)
    make = (lambda data: data.to_iterable_dataset()) if is_stream else (lambda data: data)
    plain = trained(config, make(pairs), pair_weights=None)
    assert loss_of(trained(config, make(named), pair_weights=None)) == loss_of(plain)
    assert loss_of(trained(config, make(named), pair_weights="weight")) != loss_of(plain)


@pytest.mark.parametrize("is_stream", [False, True])
def test_weights_of_text_are_carried_to_its_tokens(config: Config, is_stream: bool) -> None:
    text = datasets.Dataset.from_list(make_text_pairs(8)).add_column("confidence", WEIGHTS)
    tokenizer = make_tiny_tokenizer()
    args = config(pair_weights="confidence", max_steps=1)
    data = text.to_iterable_dataset() if is_stream else text
    trainer = DPOTrainer(make_tiny_model(), args=args, train_dataset=data, tokenizer=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    if is_stream:
        assert batch["weight"].tolist() == WEIGHTS[:4]
    assert [row["weight"] for row in trainer.train_dataset] == WEIGHTS


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("certainty", "pair_weights=certainty: the training set: there is no such column"),
        ("zero", r"the training set, row 1: .* is not a weight above 0|the training set, row 1: zero is 0"),
        ("origin", "numbers"),
    ],
)
def test_what_is_not_a_weight_is_refused(config: Config, column: str, message: str) -> None:
    pairs = make_pairs(3).add_column("zero", [1.0, 0.0, 1.0])
    if "origin" not in pairs.column_names:
        pairs = pairs.add_column("origin", ["a:1", "a:2", "a:3"])
    pairs = pairs.remove_columns([] if column == "origin" else ["origin"])
    with pytest.raises(UsageError, match=message):
        DPOTrainer(make_tiny_model(), args=config(pair_weights=column), train_dataset=pairs)
