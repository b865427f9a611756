"""Every loss compared with an independent NumPy float64 computation of its equation."""

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dpo_train import DPOConfig
from dpo_train.losses import (
    DIVERGENCES,
    LOSSES,
    divergence_scores,
    inputs_of,
    needs_reference,
    options_of,
    sft,
    sigmoid,
    terms_of,
)

#: Four pairs: the policy agrees with the preference, is undecided, disagrees, and disagrees strongly.
PAIRS = {
    "chosen_logratios": np.array([2.0, 0.0, -1.0, -30.0]),
    "rejected_logratios": np.array([1.0, 0.0, 1.5, 40.0]),
    "chosen_logps": np.array([-3.0, -40.0, -0.5, -90.0]),
    "rejected_logps": np.array([-5.0, -40.0, -0.25, -10.0]),
    "chosen_tokens": np.array([4.0, 20.0, 1.0, 30.0]),
    "rejected_tokens": np.array([2.0, 20.0, 3.0, 5.0]),
    "score_margins": np.array([1.0, 0.0, 2.5, 0.5]),
    "mean_logratios": np.array([0.75, 0.75, 0.75, 0.75]),
}
#: The names of the equations for the inputs.
SHORT = dict(zip(("c", "r", "pc", "pr", "nc", "nr", "m", "d"), PAIRS.values(), strict=True))


def s(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def golden_sigmoid(p: dict[str, Any], b: float, e: float = 0.0) -> Any:
    h = b * (p["c"] - p["r"])
    return -(1 - e) * np.log(s(h)) - e * np.log(s(-h))


def golden_sigmoid_norm(p: dict[str, Any], b: float, e: float = 0.0) -> Any:
    h = b * (p["c"] / p["nc"] - p["r"] / p["nr"])
    return -(1 - e) * np.log(s(h)) - e * np.log(s(-h))


def golden_kto_pair(p: dict[str, Any], b: float) -> Any:
    z_chosen, z_rejected = max(p["c"].mean(), 0), max(p["r"].mean(), 0)
    return 0.5 * ((1 - s(b * (p["c"] - z_rejected))) + (1 - s(b * (z_chosen - p["r"]))))


def golden_exo(p: dict[str, Any], b: float, e: float) -> Any:
    """KL divergence from the labels (1 - e, e) to the policy's softmax over the two responses."""
    rewards = b * np.stack([p["c"], p["r"]])
    policy = np.exp(rewards) / np.exp(rewards).sum(0)
    labels = np.array([[1 - e], [e]])
    return (policy * np.log(policy / labels)).sum(0)


def golden_aot(values: Any, others: Any, b: float, e: float = 0.0) -> Any:
    """Each value against the other of its rank, one pair at a time."""
    losses = []
    for value in values:
        rank = sum(value > another for another in values)
        h = b * (value - sorted(others)[rank])
        losses.append(-(1 - e) * math.log(s(h)) - e * math.log(s(-h)))
    return np.array(losses)


def golden_discopop(p: dict[str, Any], b: float, t: float) -> Any:
    h = b * (p["c"] - p["r"])
    return -np.log(s(h)) * (1 - s(h / t)) + np.exp(-h) * s(h / t)


def golden_orpo(p: dict[str, Any], b: float) -> Any:
    chosen, rejected = np.exp(p["pc"] / p["nc"]), np.exp(p["pr"] / p["nr"])
    odds_ratio = (chosen / (1 - chosen)) / (rejected / (1 - rejected))
    return -np.log(chosen) - b * np.log(s(np.log(odds_ratio)))


#: Loss -> options, and the equation with the names of `SHORT` for the inputs.
GOLDENS: dict[str, list[tuple[dict[str, float], Callable[[dict[str, Any]], Any]]]] = {
    "sigmoid": [
        ({"beta": 0.3}, lambda p: golden_sigmoid(p, 0.3)),
        ({"beta": 0.1, "label_smoothing": 0.2}, lambda p: golden_sigmoid(p, 0.1, 0.2)),
    ],
    "sigmoid_norm": [
        ({"beta": 5.0}, lambda p: golden_sigmoid_norm(p, 5.0)),
        ({"beta": 5.0, "label_smoothing": 0.1}, lambda p: golden_sigmoid_norm(p, 5.0, 0.1)),
    ],
    "hinge": [({"beta": 0.2}, lambda p: np.maximum(0, 1 - 0.2 * (p["c"] - p["r"])))],
    "ipo": [({"beta": 0.5}, lambda p: (p["c"] / p["nc"] - p["r"] / p["nr"] - 1) ** 2)],
    "robust": [
        (
            {"beta": 0.1, "label_smoothing": 0.2},
            lambda p: (0.8 * golden_sigmoid(p, 0.1) + 0.2 * np.log(s(-0.1 * (p["c"] - p["r"])))) / 0.6,
        )
    ],
    "apo_zero": [({"beta": 0.1}, lambda p: 1 - s(0.1 * p["c"]) + s(0.1 * p["r"]))],
    "apo_down": [({"beta": 0.1}, lambda p: s(0.1 * p["c"]) + 1 - s(0.1 * (p["c"] - p["r"])))],
    "kto_pair": [({"beta": 0.1}, lambda p: golden_kto_pair(p, 0.1))],
    "exo_pair": [
        ({"beta": 0.1, "label_smoothing": 0.05}, lambda p: golden_exo(p, 0.1, 0.05)),
        ({"beta": 0.1}, lambda p: golden_exo(p, 0.1, 1e-3)),
    ],
    "nca_pair": [
        (
            {"beta": 0.2},
            lambda p: -np.log(s(0.2 * p["c"])) - 0.5 * np.log(1 - s(0.2 * p["c"])) - 0.5 * np.log(1 - s(0.2 * p["r"])),
        )
    ],
    "bco_pair": [
        (
            {"beta": 0.2},
            lambda p: -np.log(s(0.2 * p["c"] - 0.2 * p["d"])) - np.log(1 - s(0.2 * p["r"] - 0.2 * p["d"])),
        )
    ],
    "sppo_hard": [({"beta": 0.5}, lambda p: (p["c"] - 1) ** 2 + (p["r"] + 1) ** 2)],
    "aot": [
        (
            {"beta": 0.1, "label_smoothing": 0.2},
            lambda p: golden_aot(p["pc"] - p["pr"], (p["pc"] - p["c"]) - (p["pr"] - p["r"]), 0.1, 0.2),
        )
    ],
    "aot_unpaired": [
        ({"beta": 0.1}, lambda p: golden_aot(p["c"], p["r"], 0.1)),
        ({"beta": 0.1, "label_smoothing": 0.2}, lambda p: golden_aot(p["c"], p["r"], 0.1, 0.2)),
    ],
    "discopop": [
        ({"beta": 0.1}, lambda p: golden_discopop(p, 0.1, 0.05)),
        ({"beta": 0.1, "discopop_tau": 0.3}, lambda p: golden_discopop(p, 0.1, 0.3)),
    ],
    "odpo": [({"beta": 0.1, "odpo_alpha": 0.5}, lambda p: -np.log(s(0.1 * (p["c"] - p["r"]) - 0.5 * p["m"])))],
    "rpo": [({"beta": 0.1, "rpo_alpha": 0.7}, lambda p: golden_sigmoid(p, 0.1) - 0.7 * p["pc"] / p["nc"])],
    "sft": [({}, lambda p: -p["pc"] / p["nc"])],
    "simpo": [
        (
            {"beta": 2.0, "simpo_gamma": 1.0},
            lambda p: -np.log(s(2 * p["pc"] / p["nc"] - 2 * p["pr"] / p["nr"] - 1)),
        )
    ],
    "orpo": [({"beta": 0.2}, lambda p: golden_orpo(p, 0.2))],
}

CASES = [(name, options, golden) for name, cases in GOLDENS.items() for options, golden in cases]


def inputs(name: str, **options: Any) -> list[torch.Tensor]:
    return [torch.tensor(PAIRS[key], **options) for key in inputs_of(LOSSES[name])]


def test_every_loss_has_a_golden_value() -> None:
    assert set(GOLDENS) == set(LOSSES)


@pytest.mark.parametrize(("name", "options", "golden"), CASES)
def test_loss_equals_its_equation_in_float64(name: str, options: dict[str, float], golden: Callable[..., Any]) -> None:
    losses = LOSSES[name](*inputs(name), **options)
    np.testing.assert_allclose(losses.numpy(), golden(SHORT), rtol=1e-12)


@pytest.mark.parametrize(("name", "options", "golden"), CASES)
def test_float32_is_accurate(name: str, options: dict[str, float], golden: Callable[..., Any]) -> None:
    losses = LOSSES[name](*inputs(name, dtype=torch.float32), **options)
    np.testing.assert_allclose(losses.numpy(), golden(SHORT), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_numerical_ones(name: str) -> None:
    if name == "kto_pair":
        pytest.skip("its batch means have no gradient, by definition")
    tensors = inputs(name, requires_grad=True)
    if name == "bco_pair":
        tensors[2] = tensors[2].detach()  # the running mean has no gradient, by definition
    assert torch.autograd.gradcheck(LOSSES[name], tensors)


def golden_divergence(name: str, u: Any, a: float = 0.5) -> Any:
    """The derivative of f at u, shifted to 0 at u = 1."""
    return {
        "reverse_kl": lambda: np.log(u),
        "forward_kl": lambda: 1 - 1 / u,
        "js_divergence": lambda: np.log(2 * u / (1 + u)),
        "alpha_divergence": lambda: (u ** (a - 1) - 1) / (a - 1),
    }[name]()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergence_scores_equal_the_derivative_of_f(name: str) -> None:
    logratios = torch.tensor([2.0, 0.0, -1.0, -30.0], dtype=torch.float64, requires_grad=True)
    scores = divergence_scores(logratios, name, 0.3)
    np.testing.assert_allclose(
        scores.detach().numpy(), golden_divergence(name, np.exp(PAIRS["chosen_logratios"]), 0.3), rtol=1e-12, atol=1e-15
    )
    assert torch.autograd.gradcheck(lambda x: divergence_scores(x, name, 0.3), logratios)


def test_alpha_divergence_lies_between_the_two_kl_divergences() -> None:
    logratios = torch.tensor([2.0, -1.0, 0.0])
    torch.testing.assert_close(divergence_scores(logratios, "alpha_divergence", 1.0), logratios)
    forward = divergence_scores(logratios, "forward_kl")
    torch.testing.assert_close(divergence_scores(logratios, "alpha_divergence", 0.0), forward)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_divergence_scores_and_their_gradients_are_finite(name: str, size: float) -> None:
    logratios = torch.tensor([size], requires_grad=True)
    scores = divergence_scores(logratios, name)
    scores.sum().backward()
    assert torch.isfinite(scores).all()
    assert logratios.grad is not None
    assert torch.isfinite(logratios.grad).all()


def test_aot_losses_do_not_depend_on_which_rejected_belongs_to_which_chosen() -> None:
    chosen, rejected = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0, -2.0, 0.5])
    losses = LOSSES["aot_unpaired"](chosen, rejected)
    torch.testing.assert_close(losses, LOSSES["aot_unpaired"](chosen, rejected.flip(0)))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, -1e4, 0.0])
def test_losses_and_gradients_are_finite_for_extreme_inputs(name: str, size: float) -> None:
    """Log-ratios of +-1e4 nats, log-probabilities of -1e4 and 0: no loss and no gradient is NaN or infinite."""
    values = {
        "chosen_logratios": size,
        "rejected_logratios": -size,
        "chosen_logps": -abs(size),
        "rejected_logps": 0.0,
        "chosen_tokens": 3.0,
        "rejected_tokens": 2.0,
        "score_margins": 1.0,
        "mean_logratios": 0.5,
    }
    tensors = [torch.tensor([values[key]], requires_grad=True) for key in inputs_of(LOSSES[name])]
    losses = LOSSES[name](*tensors)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert all(torch.isfinite(tensor.grad).all() for tensor in tensors if tensor.grad is not None)


@pytest.mark.parametrize("name", ["sigmoid", "sigmoid_norm", "robust", "odpo"])
def test_a_margin_of_zero_has_loss_ln_2(name: str) -> None:
    tensors = [torch.ones(1) if "tokens" in key else torch.zeros(1) for key in inputs_of(LOSSES[name])]
    torch.testing.assert_close(LOSSES[name](*tensors), torch.tensor([math.log(2)]))


def test_sigmoid_by_hand() -> None:
    """Log-ratios 0-0, 2-1, -1-1 have differences 0, 1, -2; times beta 0.5: 0, 0.5, -1; then -log sigmoid."""
    losses = sigmoid(torch.tensor([0.0, 2.0, -1.0]), torch.tensor([0.0, 1.0, 1.0]), beta=0.5)
    expected = [math.log(2), math.log(1 + math.exp(-0.5)), math.log(1 + math.exp(1))]
    torch.testing.assert_close(losses, torch.tensor(expected))


def test_every_option_of_a_loss_is_an_option_of_the_command_line() -> None:
    options = {option for loss in LOSSES.values() for option in options_of(loss)}
    assert len(options) > 3
    assert options <= {field.name for field in dataclasses.fields(DPOConfig)}


@pytest.mark.parametrize("name", LOSSES)
def test_options_of_a_loss_are_numbers_with_a_default_and_a_description(name: str) -> None:
    docstrings = "\n".join(str(inspect.getdoc(loss)) for loss in LOSSES.values())
    for option in options_of(LOSSES[name]):
        parameter = inspect.signature(LOSSES[name]).parameters[option]
        assert parameter.annotation is float
        assert isinstance(parameter.default, float)
        assert f"\n    {option}: " in docstrings


def test_the_signature_of_a_loss_defines_its_inputs_and_options() -> None:
    assert inputs_of(sigmoid) == ("chosen_logratios", "rejected_logratios")
    assert options_of(sigmoid) == ("beta", "label_smoothing")
    assert needs_reference(sigmoid)
    assert not needs_reference(sft)


def test_rewards_of_losses_without_a_reference_need_the_lengths_of_responses() -> None:
    assert terms_of(sigmoid) == inputs_of(sigmoid)
    assert set(terms_of(sft)) == {"chosen_logps", "chosen_tokens", "rejected_tokens"}
