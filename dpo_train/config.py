"""Training arguments: transformers.TrainingArguments with the options that only DPO has, and their checks."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainingArguments

from dpo_data.errors import UsageError, argument, did_you_mean
from dpo_train.losses import DIVERGENCE_LOSSES, DIVERGENCES, LOSSES, STEP_LOSSES, needs_reference, options_of
from dpo_train.objective import Objective
from dpo_train.options import DPOOptions, LossOptions


@dataclass
class DPOConfig(DPOOptions, LossOptions, TrainingArguments):  # type: ignore[misc]
    """transformers.TrainingArguments with defaults that suit DPO, and the options that only DPO has.

    Options of single losses are None for the loss's own default; a loss that has no such option refuses it. Options of
    losses that were added to `LOSSES` are in `loss_options`.

    Attributes:
        has_default_schedule: whether no schedule was named. The default is transformers' linear one, but its warmup
            begins above 0, so that the first step trains too.
    """

    _VALID_DICT_FIELDS = (*TrainingArguments._VALID_DICT_FIELDS, "model_init_kwargs", "loss_options")

    def __post_init__(self) -> None:
        """Resolve the schedule, and what TrainingArguments resolve."""
        self.has_default_schedule = self.lr_scheduler_type is None
        if self.has_default_schedule:
            self.lr_scheduler_type = "linear"
        super().__post_init__()


def trainer_arguments(args: TrainingArguments) -> TrainingArguments:
    """Return a copy of the arguments with every option of `DPOConfig` and with the settings that DPOTrainer needs.

    Raises:
        UsageError: an option has a value that would have no effect.
    """
    if args.label_smoothing_factor:
        raise UsageError(
            f"smooths the labels of another loss; use {argument('label_smoothing')}.",
            "label_smoothing_factor",
            args.label_smoothing_factor,
        )
    if args.max_steps == 0:
        raise UsageError("trains nothing; to evaluate only, call evaluate or pass --eval-only.", "max_steps", 0)
    if args.max_steps < 0 and args.num_train_epochs <= 0:
        reason = "trains nothing; to evaluate only, call evaluate or pass --eval-only."
        raise UsageError(reason, "num_train_epochs", args.num_train_epochs)
    args = copy.copy(args)
    for option in dataclasses.fields(DPOConfig):
        if not hasattr(args, option.name):
            setattr(args, option.name, option.default)
    args.remove_unused_columns = False
    args.logging_nan_inf_filter = False  # a NaN is an error here, and must not be left out of a mean
    args.batch_eval_metrics = False
    args.eval_do_concat_batches = True
    args.include_for_metrics = []  # there is no compute_metrics to pass packed inputs to
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = False  # searching for them walks the graph in every step
    args.dataloader_pin_memory = args.dataloader_pin_memory and torch.cuda.is_available()
    return args


#: The default of `DPOTrainer(beta=...)`: an argument of this size does not count as given.
DEFAULT_BETA = 0.1


def resolve_beta(given: float, configured: float | None) -> float:
    """Return the beta of the constructor or of the configuration, whichever was given."""
    if configured is not None and given not in (DEFAULT_BETA, configured):
        raise UsageError(f"beta is {given} in DPOTrainer(beta=...) and {configured} in its args; pass it only once.")
    beta = given if configured is None else configured
    if beta < 0:
        raise UsageError("must not be negative: the loss would prefer the rejected responses.", "beta", beta)
    return beta


def resolve_alias(first: Any, second: Any, name: str, other_name: str) -> Any:
    """Return the value that was given under one of two names."""
    if first is not None and second is not None and first is not second:
        raise UsageError(f"{argument(name)} and {argument(other_name)} are aliases; pass only one.")
    return second if first is None else first


#: Values with which an option has no effect, so that losses without the option accept them.
_NO_EFFECT = {("label_smoothing", 0.0)}

#: Losses of the log-probability per token, for which `ld_alpha` is not defined.
_PER_TOKEN_LOSSES = {"sft", "simpo", "orpo", "rpo"}

#: Losses that keep the chosen response likely by a part that is `sft`.
_SFT_LOSSES = {"sft", "orpo", "rpo"}


def loss_names(loss_type: str | Sequence[str]) -> tuple[str, ...]:
    """Return the losses of `DPOConfig.loss_type`."""
    return (loss_type,) if isinstance(loss_type, str) else tuple(loss_type)


def make_objective(args: DPOConfig, beta: float) -> Objective:
    """Return what a run minimizes.

    Raises:
        UsageError: there is no such loss, or losses, weights, divergence and options do not go together.
    """
    names = loss_names(args.loss_type)
    options = {name: loss_options(name, beta, args, combined_with=names) for name in names}
    if not names or len(options) < len(names):
        raise UsageError("name at least one loss, and each only once.", "loss_type", " ".join(names))
    weights = args.loss_weights or [1.0] * len(names)
    if len(weights) != len(names):
        raise UsageError(f"pass one weight per loss: {', '.join(names)}.", "loss_weights", weights)
    if not all(0 <= weight < math.inf for weight in weights):
        raise UsageError("must not be negative.", "loss_weights", weights)
    if args.f_divergence_type not in DIVERGENCES:
        hint = did_you_mean(args.f_divergence_type, DIVERGENCES)
        choices = f"\n  Divergences: {', '.join(DIVERGENCES)}."
        raise UsageError(f"there is no such divergence.{hint}{choices}", "f_divergence_type", args.f_divergence_type)
    if args.f_divergence_type != DIVERGENCES[0] and (
        others := [name for name in names if name not in DIVERGENCE_LOSSES]
    ):
        raise UsageError(
            f"the loss {others[0]} has no such variant.\n  Losses: "
            f"{', '.join(name for name in LOSSES if name in DIVERGENCE_LOSSES)}.",
            "f_divergence_type",
            args.f_divergence_type,
        )
    if args.ld_alpha is not None and not 0 <= args.ld_alpha <= 1:
        raise UsageError("must be in [0, 1].", "ld_alpha", args.ld_alpha)
    for option, refused in (("ld_alpha", _PER_TOKEN_LOSSES), ("use_weighting", STEP_LOSSES)):
        value = getattr(args, option)
        if value is not None and value is not False and (others := [name for name in names if name in refused]):
            raise UsageError(f"cannot be combined with the loss {others[0]}.", option, value)
    if args.on_displacement == "sft" and (others := [name for name in names if name in _SFT_LOSSES]):
        raise UsageError(f"the loss {others[0]} has the loss sft already.", "on_displacement", "sft")
    if args.on_displacement == "sft" and args.ld_alpha is not None:
        raise UsageError(f"cannot be combined with {argument('ld_alpha')}.", "on_displacement", "sft")
    losses = {name: (weight, options[name]) for name, weight in zip(names, weights, strict=True)}
    return Objective(losses, args.f_divergence_type, args.f_alpha_divergence_coef)


def loss_options(
    loss_type: str, beta: float, args: TrainingArguments, *, combined_with: Sequence[str] = ()
) -> dict[str, float]:
    """Return the options to call a loss with: those given, and beta.

    Args:
        loss_type: the loss.
        beta: how strongly the policy is kept close to the reference.
        args: the arguments of the run.
        combined_with: further losses, whose options may be given too.

    Raises:
        UsageError: there is no such loss, or it does not have an option that was given.
    """
    if loss_type not in LOSSES:
        raise UsageError(
            f"there is no such loss.{did_you_mean(loss_type, LOSSES)}\n  Losses: {', '.join(LOSSES)}.",
            "loss_type",
            loss_type,
        )
    own = options_of(LOSSES[loss_type])
    every = {option for loss in LOSSES.values() for option in options_of(loss)} - {"beta"}
    given = {option: getattr(args, option) for option in sorted(every) if getattr(args, option, None) is not None}
    given |= getattr(args, "loss_options", None) or {}
    elsewhere = {option for loss in combined_with if loss in LOSSES for option in options_of(LOSSES[loss])}
    none = {option for option, value in given.items() if (option, value) in _NO_EFFECT}
    if unused := [argument(option) for option in given if option not in {*own, *elsewhere, *none}]:
        options = ", ".join(argument(option) for option in own) or "none"
        raise UsageError(f"the loss {loss_type} has no {', '.join(unused)}; its options: {options}.")
    if not 0 <= given.get("label_smoothing", 0) < 0.5:
        raise UsageError("must be in [0, 0.5).", "label_smoothing", given["label_smoothing"])
    if loss_type == "exo_pair" and given.get("label_smoothing") == 0:
        raise UsageError("must be above 0 for the loss exo_pair, whose paper uses 1e-3.", "label_smoothing", 0)
    given = {option: value for option, value in given.items() if option in own}
    return given | ({"beta": beta} if "beta" in own else {})


def check_reference(args: DPOConfig, *, given: bool) -> None:
    """Raise UsageError if the loss uses no reference, though one is given or `reference_free` is set."""
    names = loss_names(args.loss_type)
    uses_reference = any(needs_reference(LOSSES[name]) for name in names)
    described = f"the loss {names[0]} does" if len(names) == 1 else f"the losses {', '.join(names)} do"
    if args.reference_free and not uses_reference:
        raise UsageError(f"{described} not use a reference; leave out {argument('reference_free', True)}.")
    if given and (args.reference_free or not uses_reference):
        raise UsageError(f"{described} not use a reference here; leave out {argument('ref_model')}.")
    _check_sync(args, uses_reference=uses_reference and not args.reference_free)


def _check_sync(args: DPOConfig, *, uses_reference: bool) -> None:
    """Raise UsageError if the options of `reference.sync` have no effect or contradict others."""
    if not args.sync_ref_model:
        for option in ("ref_model_mixup_alpha", "ref_model_sync_steps"):
            value = getattr(args, option)
            if value != DPOConfig.__dataclass_fields__[option].default:
                raise UsageError(f"has no effect without {argument('sync_ref_model', True)}.", option, value)
        return
    if not uses_reference:
        raise UsageError("there is no reference to move.", "sync_ref_model", True)
    for option in ("precompute_reference", "reference_cache"):
        if value := getattr(args, option):
            raise UsageError(
                f"the reference changes, so its values cannot be stored; leave out {argument(option, value)}.",
                "sync_ref_model",
                True,
            )
    if not 0 < args.ref_model_mixup_alpha <= 1:
        raise UsageError("must be in (0, 1].", "ref_model_mixup_alpha", args.ref_model_mixup_alpha)
    if args.ref_model_sync_steps < 1:
        raise UsageError("must be at least 1.", "ref_model_sync_steps", args.ref_model_sync_steps)
