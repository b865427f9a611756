"""Training arguments: defaults, and options of losses."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest
from toys import make_tiny_model
from transformers import TrainingArguments

from dpo_data.errors import UsageError
from dpo_train import LOSSES, DPOTrainer
from dpo_train.config import DPOConfig, check_reference, loss_options, make_objective, resolve_alias, resolve_beta
from dpo_train.losses import DIVERGENCES, options_of


def config(**options: Any) -> DPOConfig:
    return DPOConfig(output_dir="unused", use_cpu=True, **options)


def test_the_defaults_are_those_of_the_sources() -> None:
    assert (config().learning_rate, config().num_train_epochs, config().warmup_steps) == (1e-6, 1.0, 0.1)


def test_other_defaults_are_those_of_transformers() -> None:
    ours = {field.name: field.default for field in dataclasses.fields(DPOConfig)}
    changed = {
        field.name
        for field in dataclasses.fields(TrainingArguments)
        if ours[field.name] != field.default and field.default is not dataclasses.MISSING
    }
    assert changed == {
        "learning_rate",
        "lr_scheduler_type",
        "num_train_epochs",
        "warmup_steps",
        "logging_steps",
        "logging_first_step",
    }
    assert config().lr_scheduler_type == TrainingArguments(output_dir="unused", use_cpu=True).lr_scheduler_type


def test_the_options_of_a_loss_come_from_its_signature() -> None:
    fields = {field.name: field.metadata for field in dataclasses.fields(DPOConfig)}
    for option in {option for loss in LOSSES.values() for option in options_of(loss)} - {"beta"}:
        with_it = [name for name, loss in LOSSES.items() if option in options_of(loss)]
        assert fields[option]["help"].endswith(f"Losses: {', '.join(with_it)}.")
    assert fields["label_smoothing"]["show_default"] == "0.0; robust: 0.1; exo_pair: 0.001"


def test_a_loss_is_called_with_beta_and_the_options_that_were_given() -> None:
    assert loss_options("rpo", 0.2, config(rpo_alpha=0.5)) == {"beta": 0.2, "rpo_alpha": 0.5}
    assert loss_options("sft", 0.2, config()) == {}


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        ("rpoo", {}, f"loss_type=rpoo: there is no such loss.\n  Did you mean rpo?\n  Losses: {', '.join(LOSSES)}."),
        ("sft", {"rpo_alpha": 1.0}, "the loss sft has no rpo_alpha=; its options: none."),
        ("sigmoid", {"label_smoothing": 0.5}, "label_smoothing=0.5: must be in [0, 0.5)."),
        (
            "exo_pair",
            {"label_smoothing": 0.0},
            "label_smoothing=0: must be above 0 for the loss exo_pair, whose paper uses 1e-3.",
        ),
    ],
)
def test_what_a_loss_does_not_take_is_refused(loss: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        loss_options(loss, 0.1, config(**options))
    assert str(caught.value) == message


def test_several_losses_take_their_own_options_and_weights() -> None:
    args = config(loss_type=["sigmoid", "discopop", "sft"], loss_weights=[0.8, 0.2, 1.0], discopop_tau=0.1)
    objective = make_objective(args, 0.3)
    assert objective.losses == {
        "sigmoid": (0.8, {"beta": 0.3}),
        "discopop": (0.2, {"beta": 0.3, "discopop_tau": 0.1}),
        "sft": (1.0, {}),
    }
    assert str(objective) == "0.8 sigmoid + 0.2 discopop + sft"
    assert str(make_objective(config(loss_type=["sigmoid", "sft"]), 0.1)) == "sigmoid + sft"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]},
            "loss_weights=[1.0]: pass one weight per loss: sigmoid, sft.",
        ),
        ({"loss_type": ["sft"], "loss_weights": [-1.0]}, "loss_weights=[-1.0]: must not be negative."),
        ({"loss_type": ["sft", "sft"]}, "loss_type=sft sft: name at least one loss, and each only once."),
        ({"loss_type": ["sigmoid", "sft"], "odpo_alpha": 1.0}, "the loss sigmoid has no odpo_alpha=; its options:"),
        ({"f_divergence_type": "forward"}, "f_divergence_type=forward: there is no such divergence."),
        (
            {"loss_type": ["sigmoid", "kto_pair"], "f_divergence_type": "forward_kl"},
            "f_divergence_type=forward_kl: the loss kto_pair has no such variant.",
        ),
        ({"ld_alpha": 1.5}, "ld_alpha=1.5: must be in [0, 1]."),
        ({"ld_alpha": 0.0, "loss_type": ["sigmoid", "sft"]}, "ld_alpha=0.0: cannot be combined with the loss sft."),
        ({"use_weighting": True, "loss_type": "aot"}, "use_weighting=True: cannot be combined with the loss aot."),
    ],
)
def test_losses_and_weights_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_objective(config(**options), 0.1)
    assert str(caught.value).startswith(message)


def test_the_options_name_every_divergence() -> None:
    fields = {field.name: field.type for field in dataclasses.fields(DPOConfig)}
    assert get_args(fields["f_divergence_type"]) == DIVERGENCES


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        (
            {"loss_type": "sft", "reference_free": True},
            False,
            "the loss sft does not use a reference; leave out reference_free=True.",
        ),
        ({"loss_type": "sft"}, True, "the loss sft does not use a reference here; leave out ref_model=."),
        ({"reference_free": True}, True, "the loss sigmoid does not use a reference here; leave out ref_model=."),
    ],
)
def test_a_reference_that_the_loss_does_not_use_is_refused(options: dict[str, Any], given: bool, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_reference(config(**options), given=given)
    assert str(caught.value) == message


def test_a_reference_that_the_loss_uses_is_accepted() -> None:
    check_reference(config(), given=True)
    check_reference(config(loss_type="sft"), given=False)


def test_beta_may_be_given_in_either_place_but_not_differently_in_both() -> None:
    assert (resolve_beta(0.3, None), resolve_beta(0.1, 0.2), resolve_beta(0.2, 0.2)) == (0.3, 0.2, 0.2)
    with pytest.raises(
        UsageError, match=r"beta is 0\.3 in DPOTrainer\(beta=\.\.\.\) and 0\.2 in its args; pass it only"
    ):
        resolve_beta(0.3, 0.2)


def test_two_values_for_two_names_of_one_argument_are_refused() -> None:
    assert (resolve_alias(1, None, "a", "b"), resolve_alias(None, 2, "a", "b")) == (1, 2)
    with pytest.raises(UsageError, match="tokenizer= and processing_class= are aliases; pass only one"):
        resolve_alias(1, 2, "tokenizer", "processing_class")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing_factor": 0.1}, "smooths the labels of another loss; use label_smoothing"),
        ({"max_steps": 0}, "trains nothing"),
        ({"beta": -0.1}, "must not be negative"),
    ],
)
def test_values_that_would_be_ignored_or_reversed_are_refused(
    options: dict[str, Any], message: str, pairs: Any, tmp_path: Path
) -> None:
    args = DPOConfig(output_dir=str(tmp_path), use_cpu=True, **options)
    with pytest.raises(UsageError, match=message):
        DPOTrainer(make_tiny_model(), args=args, train_dataset=pairs)
