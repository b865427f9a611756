"""Weighted sums of losses, compared with a plain computation for each pair."""

import math

import pytest
import torch

from dpo_train import LOSSES
from dpo_train.losses import DIVERGENCE_LOSSES, inputs_of
from dpo_train.objective import Objective

#: Two pairs.
INPUTS = {
    "chosen_logratios": torch.tensor([2.0, -1.0]),
    "rejected_logratios": torch.tensor([1.0, 1.5]),
    "chosen_logps": torch.tensor([-3.0, -0.5]),
    "rejected_logps": torch.tensor([-5.0, -0.25]),
    "chosen_tokens": torch.tensor([4, 1]),
    "rejected_tokens": torch.tensor([2, 3]),
    "score_margins": torch.tensor([1.0, 2.5]),
}


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


def test_mpo_is_the_weighted_sum_of_its_three_losses() -> None:
    """0.8 sigmoid + 0.2 bco_pair + sft, the weights of Wang et al. 2024 (MPO), arXiv:2411.10442."""
    beta = 0.1
    objective = Objective({"sigmoid": (0.8, {"beta": beta}), "bco_pair": (0.2, {"beta": beta}), "sft": (1.0, {})})
    expected = []
    for chosen, rejected, logps, tokens in [(2.0, 1.0, -3.0, 4), (-1.0, 1.5, -0.5, 1)]:
        mean = (2.0 - 1.0 + 1.0 + 1.5) / 4
        preference = -log_sigmoid(beta * (chosen - rejected))
        quality = -log_sigmoid(beta * (chosen - mean)) - log_sigmoid(-beta * (rejected - mean))
        expected.append(0.8 * preference + 0.2 * quality - logps / tokens)
    torch.testing.assert_close(objective(INPUTS), torch.tensor(expected))


@pytest.mark.parametrize("name", sorted(DIVERGENCE_LOSSES - {"sft"}))
def test_a_divergence_replaces_the_log_ratios_of_a_loss(name: str) -> None:
    scores = {key: 1 - torch.exp(-INPUTS[key]) for key in ("chosen_logratios", "rejected_logratios")}
    inputs = INPUTS | scores
    expected = LOSSES[name](*(inputs[key] for key in inputs_of(LOSSES[name])))
    torch.testing.assert_close(Objective({name: (1.0, {})}, "forward_kl")(INPUTS), expected)
    assert not torch.allclose(Objective({name: (1.0, {})})(INPUTS), expected)


def test_a_divergence_leaves_the_rewards_as_they_are() -> None:
    logps = (torch.tensor([value]) for value in (-3.0, -5.0, -4.0, -4.0))
    losses, *rewards = Objective({"sigmoid": (1.0, {"beta": 0.5})}, "js_divergence").losses_and_rewards(
        *logps, beta=0.5, terms={}
    )
    scores = [math.log(2 * u / (1 + u)) for u in (math.e, 1 / math.e)]
    torch.testing.assert_close(losses, torch.tensor([-log_sigmoid(0.5 * (scores[0] - scores[1]))]))
    assert [float(reward) for reward in rewards] == [0.5, -0.5]


def test_a_sum_needs_what_its_losses_need() -> None:
    objective = Objective({"odpo": (1.0, {}), "sft": (1.0, {})})
    assert objective.needs_reference
    assert objective.inputs == {
        "chosen_logratios",
        "rejected_logratios",
        "score_margins",
        "chosen_logps",
        "chosen_tokens",
    }
    assert not Objective({"sft": (1.0, {}), "simpo": (0.5, {})}).needs_reference


def test_a_loss_of_the_user_is_added_to_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    def mine(chosen_logratios: torch.Tensor, *, gain: float = 2.0) -> torch.Tensor:
        return -gain * chosen_logratios

    monkeypatch.setitem(LOSSES, "mine", mine)
    torch.testing.assert_close(Objective({"mine": (0.5, {"gain": 4.0})})(INPUTS), torch.tensor([-4.0, 2.0]))
