"""Every loss against an independent plain NumPy float64 computation, worked from its equation."""

import math

import numpy as np
import pytest
import torch

from dpo_train.losses import LOSSES, inputs_of, options_of, sigmoid


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -x)


def test_sigmoid_by_hand() -> None:
    """Log-ratios 0-0, 2-1, -1-1 give differences 0, 1, -2; times beta 0.5: 0, 0.5, -1; -log sigmoid of these."""
    losses = sigmoid(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([0.0, 1.0, 1.0]), beta=0.5)
    expected = [math.log(2), math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(1))]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_label_smoothing_mixes_in_the_loss_of_the_swapped_pair() -> None:
    chosen, rejected = np.array([0.3, -2.0, 4.0]), np.array([0.1, 1.0, -3.0])
    difference = 0.1 * (chosen - rejected)
    expected = -0.8 * log_sigmoid(difference) - 0.2 * log_sigmoid(-difference)
    losses = sigmoid(torch.tensor(chosen), torch.tensor(rejected), beta=0.1, label_smoothing=0.2)
    torch.testing.assert_close(losses, torch.tensor(expected))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_numerical_ones(name: str) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in inputs_of(LOSSES[name])]
    assert inputs
    assert torch.autograd.gradcheck(LOSSES[name], inputs)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("difference", [1e4, -1e4])
def test_losses_and_gradients_stay_finite_far_out(name: str, difference: float) -> None:
    inputs = [torch.zeros(1, requires_grad=True) for _ in inputs_of(LOSSES[name])]
    losses = LOSSES[name](inputs[0] + difference, *inputs[1:])
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(tensor.grad).all() for tensor in inputs if tensor.grad is not None)


def test_a_loss_tells_its_inputs_and_options() -> None:
    assert inputs_of(sigmoid) == ("chosen_logratios", "rejected_logratios")
    assert options_of(sigmoid) == ("beta", "label_smoothing")
