"""LD-DPO and WPO, which need more than the log-probability of a response: compared with one sequence at a time."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from toys import make_tiny_model

from dpo_data.errors import UsageError
from dpo_train import DPOConfig, DPOTrainer
from dpo_train.reference.live import LiveReference

Config = Callable[..., DPOConfig]
SIDES = ("chosen", "rejected")


def token_log_softmax(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Log-probabilities of the vocabulary at each token of a response, (tokens, V)."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0].double()
    return logits.log_softmax(-1)[len(prompt) - 1 : len(prompt) + len(response) - 1]


def naive(model: Any, row: dict[str, Any], side: str) -> list[float]:
    """The log-probability of each token of a response."""
    response = row[f"{side}_ids"]
    steps = token_log_softmax(model, row["prompt_ids"], response)
    return [float(step[token]) for step, token in zip(steps, response, strict=True)]


def margin(row: dict[str, Any], policy: Any, reference: Any, alpha: float) -> float:
    shared = min(len(row["chosen_ids"]), len(row["rejected_ids"]))
    ratios = []
    for side in SIDES:
        sums = []
        for model in (policy, reference):
            values = naive(model, row, side)
            sums.append(sum(values[:shared]) + alpha * sum(values[shared:]))
        ratios.append(sums[0] - sums[1])
    return ratios[0] - ratios[1]


def evaluated(args: DPOConfig, pairs: datasets.Dataset) -> np.ndarray:
    trainer = DPOTrainer(make_tiny_model(), make_tiny_model(1), args=args, eval_dataset=pairs)
    trainer.evaluate()
    assert trainer.evaluated is not None
    return trainer.evaluated[:, 0]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_ld_alpha_weighs_the_tokens_beyond_the_shorter_response(
    config: Config, pairs: datasets.Dataset, alpha: float
) -> None:
    policy, reference = make_tiny_model(), make_tiny_model(1)
    expected = [np.log1p(np.exp(-0.1 * margin(row, policy, reference, alpha))) for row in pairs]
    np.testing.assert_allclose(evaluated(config(ld_alpha=alpha), pairs), expected, rtol=1e-4)


def test_use_weighting_multiplies_the_loss_with_the_probability_of_both_responses(
    config: Config, pairs: datasets.Dataset
) -> None:
    policy, reference = make_tiny_model(), make_tiny_model(1)
    expected = []
    for row in pairs:
        weight = 1.0
        for side in SIDES:
            steps = token_log_softmax(policy, row["prompt_ids"], row[f"{side}_ids"])
            own = [
                float(step[token] - (step.exp() ** 2).sum().log())
                for step, token in zip(steps, row[f"{side}_ids"], strict=True)
            ]
            weight *= np.exp(np.mean(own))
        expected.append(weight * np.log1p(np.exp(-0.1 * margin(row, policy, reference, 1.0))))
    np.testing.assert_allclose(evaluated(config(use_weighting=True), pairs), expected, rtol=1e-4)


@pytest.mark.parametrize("option", [{"ld_alpha": 0.5}, {"use_weighting": True}])
def test_they_are_padded_and_bypass_the_reference_store(
    config: Config, pairs: datasets.Dataset, option: dict[str, Any]
) -> None:
    trainer = DPOTrainer(make_tiny_model(), args=config(**option), train_dataset=pairs)
    assert next(iter(option)) in str(trainer.padding_reason)
    assert isinstance(trainer.reference, LiveReference)
    trainer.train()
    with pytest.raises(UsageError, match=next(iter(option))):
        DPOTrainer(make_tiny_model(), args=config(**option, attention_path="shared"), train_dataset=pairs)
    with pytest.raises(UsageError, match="precompute_reference"):
        DPOTrainer(make_tiny_model(), args=config(**option, precompute_reference=True), train_dataset=pairs)


def test_weights_have_no_gradient(config: Config, pairs: datasets.Dataset) -> None:
    """With one pair, the gradient is that of the plain loss times the weight."""
    gradients = []
    for weighting in (False, True):
        model, pair = make_tiny_model(), pairs.select([0])
        args = config(use_weighting=weighting, attention_path="padded", max_steps=1, learning_rate=0.0)
        trainer = DPOTrainer(model, args=args, train_dataset=pair)
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(model, batch)
        loss.backward()
        gradients.append((float(loss.detach()), model.model.embed_tokens.weight.grad))
    (plain_loss, plain), (weighted_loss, weighted) = gradients
    torch.testing.assert_close(weighted, plain * weighted_loss / plain_loss, rtol=1e-4, atol=1e-8)
