"""The few options of our own on top of transformers.TrainingArguments, and how text becomes their values."""

import copy
import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser, TrainingArguments

from dpo_data.errors import UsageError
from dpo_train.losses import LOSSES, options_of


@dataclass
class DPOConfig(TrainingArguments):  # type: ignore[misc]
    """transformers.TrainingArguments with defaults that suit DPO, and what only DPO has."""

    beta: float | None = field(
        default=None, metadata={"help": "strength of the pull to the reference; None: DPOTrainer's own argument"}
    )
    loss_type: str = field(default="sigmoid", metadata={"help": "one of dpo_train.LOSSES"})
    reference_free: bool = field(
        default=False, metadata={"help": "compare with a reference that finds all responses equally likely"}
    )
    # Options of single losses; None: the loss's own default. A loss that has no such option refuses it.
    label_smoothing: float | None = field(default=None, metadata={"help": "share of labels taken to be wrong"})
    rpo_alpha: float | None = field(default=None, metadata={"help": "weight of the added SFT term"})
    simpo_gamma: float | None = field(default=None, metadata={"help": "target margin"})
    odpo_alpha: float | None = field(default=None, metadata={"help": "weight of the score margin"})
    attention_path: str = field(
        default="auto", metadata={"help": "shared (each prompt once, no padding), padded, or auto for what works"}
    )
    max_tokens_per_microbatch: int | None = field(
        default=None, metadata={"help": "distinct tokens computed at a time on the shared path; None: as memory allows"}
    )
    reduce_activation_memory: bool = field(
        default=True,
        metadata={"help": "recompute parts of gated MLPs and fuse the gradients of tied embeddings (packed batches)"},
    )
    scatter_prompts: bool = field(
        default=False, metadata={"help": "let the pairs of one prompt fall into different steps"}
    )
    precompute_reference: bool | None = field(
        default=None,
        metadata={"help": "compute each response's reference once: None for the rows of the run, true for all of them"},
    )
    reference_cache: str | None = field(
        default=None, metadata={"help": "folder that keeps the reference's log-probabilities for later runs"}
    )
    # Rafailov et al. 2023, arXiv:2305.18290, appendix B: learning rate 1e-6 with a warmup over 150 steps.
    learning_rate: float = field(default=1e-6, metadata={"help": "peak learning rate"})
    # As in the recipe of zephyr-7b-beta (alignment-handbook), which suits short runs too.
    warmup_steps: float = field(default=0.1, metadata={"help": "steps, or below 1 the share of all steps, of warmup"})
    num_train_epochs: float = field(default=1.0, metadata={"help": "passes over the training pairs"})
    logging_steps: float = field(default=10, metadata={"help": "optimizer steps between two log records"})
    logging_first_step: bool = field(default=True, metadata={"help": "also log the first step"})


class _Parser(HfArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[0].upper()}{message[1:]}.")


def training_fields() -> list[str]:
    """Names of all options of `DPOConfig`."""
    return [option.name for option in dataclasses.fields(DPOConfig) if option.init]


def refuse_unknown(names: Iterable[str], known: Iterable[str], place: str) -> None:
    """Name the nearest known option for the first name that is none.

    Raises:
        UsageError: a name is not known.
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]}?" if near else "dpo-train --help lists the options."
            raise UsageError(f"{place}: there is no option {name}.\n  {hint}")


def parse_training_options(words: list[str], known: Iterable[str] = ()) -> dict[str, Any]:
    """Values of training options from the words of a command line, by field name; the last one given counts.

    Args:
        words: `--field-name value` or `--field-name=value`; a switch needs no value.
        known: further options, which only a message about an unknown one should know.

    Raises:
        UsageError: an unknown option, a value of the wrong type, or a word that belongs to no option.
    """
    fields = training_fields()
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    refuse_unknown(
        names,
        [*fields, *(f"no_{name}" for name in fields), *(name.replace("-", "_") for name in known)],
        "command line",
    )
    parser = _Parser(DPOConfig, allow_abbrev=False)
    not_given = object()
    parser.set_defaults(**dict.fromkeys(fields, not_given))
    values, rest = parser.parse_known_args(words)
    if rest:
        raise UsageError(f"command line: {rest[0]} belongs to no option.")
    return {name: value for name, value in vars(values).items() if value is not not_given}


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Options from a YAML file as the words of a command line, so that both are read alike.

    >>> as_words({"learning_rate": "1e-6", "bf16": True, "optim_args": None})
    ['--learning_rate', '1e-6', '--bf16', 'true']
    """
    words = []
    for name, value in options.items():
        if value is None:
            continue
        words.append(f"--{name}")
        if isinstance(value, bool):
            words.append(str(value).lower())
        elif isinstance(value, list):
            words += [str(item) for item in value]
        else:
            words.append(json.dumps(value) if isinstance(value, dict) else str(value))
    return words


def trainer_arguments(args: TrainingArguments) -> TrainingArguments:
    """Return a copy of the arguments with every option of `DPOConfig` and with the settings that DPOTrainer needs."""
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


def resolve_beta(argument: float, configured: float | None) -> float:
    """The beta of the constructor or of the configuration, whichever was given."""
    if configured is not None and argument not in (DEFAULT_BETA, configured):
        raise UsageError(f"beta is {argument} in DPOTrainer(beta=...) and {configured} in its args: give it once.")
    return argument if configured is None else configured


def resolve_alias(first: Any, second: Any, name: str, other_name: str) -> Any:
    """The one of two names for the same thing that was given."""
    if first is not None and second is not None and first is not second:
        raise UsageError(f"{name} and {other_name} are two names for one thing: give one of them.")
    return second if first is None else first


def loss_options(loss_type: str, beta: float, args: TrainingArguments) -> dict[str, float]:
    """The options to call a loss with: those given, and beta.

    Raises:
        UsageError: no such loss, or an option that it does not have.
    """
    if loss_type not in LOSSES:
        raise UsageError(f"there is no loss {loss_type}; choose from {', '.join(LOSSES)}.")
    own = options_of(LOSSES[loss_type])
    every = {option for loss in LOSSES.values() for option in options_of(loss)} - {"beta"}
    given = {option: getattr(args, option) for option in sorted(every) if getattr(args, option, None) is not None}
    if unused := [option for option in given if option not in own]:
        raise UsageError(f"the loss {loss_type} has no {', '.join(unused)}; its options: {', '.join(own) or 'none'}.")
    if not 0 <= given.get("label_smoothing", 0) < 0.5:
        raise UsageError(f"label_smoothing {given['label_smoothing']}: a share of wrong labels is 0 to below 0.5.")
    return given | ({"beta": beta} if "beta" in own else {})
