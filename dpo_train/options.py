"""Options of training as plain dataclasses, which the command line lists without loading torch or transformers."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any, Literal

#: Sections of --help, in order.
GROUPS = (
    "Main options",
    "Loss and reference",
    "LoRA",
    "Batches and memory",
    "Tokens",
    "Evaluation, checkpoints and logs",
    "Run",
)
MAIN, LOSS, ADAPTER, BATCHES, TOKENS, EVALUATION, RUN = GROUPS


class OptionMetadata(dict[str, Any]):
    """Metadata of a dataclass field that is an option of the command line.

    transformers.HfArgumentParser passes every key that it sees to argparse, which only takes `help` of these.
    """

    def keys(self) -> Any:
        """Return the keys that argparse takes."""
        return {"help": None}.keys()

    def copy(self) -> dict[str, Any]:
        """Return what argparse takes, for parsers of transformers before 5.23."""
        return {"help": self["help"]}


def option(
    help: str,
    *,
    group: str,
    names: tuple[str, ...] = (),
    metavar: str | None = None,
    show_default: str | bool = True,
    minimum: int | None = None,
) -> OptionMetadata:
    """Return the metadata that make a dataclass field an option of the command line.

    Args:
        help: for --help.
        group: section of --help.
        names: of the option, if they are not the field's.
        metavar: what --help shows for the value; default: by the type.
        show_default: the default in words, or whether to show it.
        minimum: of a number.
    """
    return OptionMetadata(
        help=help, group=group, names=names, metavar=metavar, show_default=show_default, minimum=minimum
    )


def _read_losses() -> dict[str, ast.FunctionDef]:
    """Return the function of each loss as source code: importing `dpo_train.losses` would load torch."""
    tree = ast.parse(Path(__file__).with_name("losses.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (registry,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict) and ast.unparse(node.target) == "LOSSES"
    )
    names = [ast.literal_eval(key) for key in registry.keys if key is not None]
    return {name: functions[ast.unparse(value)] for name, value in zip(names, registry.values, strict=True)}


def _loss_options(losses: Mapping[str, ast.FunctionDef]) -> list[tuple[str, Any, Any]]:
    """Return a dataclass field for each option of the losses but beta; None leaves it to the loss."""
    defaults: dict[str, dict[str, str]] = {}
    helps: dict[str, str] = {}
    for loss, function in losses.items():
        for parameter, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
            if parameter.arg != "beta":
                defaults.setdefault(parameter.arg, {})[loss] = ast.unparse(default) if default else "required"
                described = _described(parameter.arg, ast.get_docstring(function) or "")
                helps[parameter.arg] = helps.get(parameter.arg) or described
    fields = []
    for name, by_loss in defaults.items():
        usual = max(by_loss.values(), key=list(by_loss.values()).count)
        shown = "; ".join([usual, *(f"{loss}: {value}" for loss, value in by_loss.items() if value != usual)])
        text = f"{helps[name]}Losses: {', '.join(by_loss)}."
        metadata = option(text, group=LOSS, metavar="X", show_default=shown)
        fields.append((name, float | None, field(default=None, metadata=metadata)))
    return fields


def _described(name: str, docstring: str) -> str:
    r"""Return what the section Args of a docstring says about an argument, as a sentence.

    >>> _described("gamma", "Args:\n    gamma: target margin,\n        in nats; g in the equation.\n\nReturns: losses.")
    'Target margin, in nats. '
    """
    found = re.search(rf"^ +{name}: (.+?)(?=\n *\w+: |\n\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    words = " ".join(found[1].partition(";")[0].split()).rstrip(".") if found else ""
    return f"{words[0].upper()}{words[1:]}. " if words else ""


_LOSSES = _read_losses()
#: Options of single losses, from their signatures.
LossOptions: Any = make_dataclass("LossOptions", _loss_options(_LOSSES))


def added_options(losses: Mapping[str, Callable[..., Any]]) -> Any:
    """Return a dataclass of the options that only losses have which a program added to `LOSSES`."""
    fields: dict[str, Any] = {}
    known = {"beta", *LossOptions.__dataclass_fields__}
    for loss, function in losses.items():
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind == parameter.KEYWORD_ONLY and parameter.name not in known:
                text = f"{_described(parameter.name, inspect.getdoc(function) or '')}Losses: {loss}."
                shown = "required" if parameter.default is parameter.empty else str(parameter.default)
                metadata = option(text, group=LOSS, metavar="X", show_default=shown)
                fields.setdefault(parameter.name, field(default=None, metadata=metadata))
    return make_dataclass("AddedOptions", [(name, float | None, each) for name, each in fields.items()])


@dataclass
class DPOOptions:
    """Options that only DPO has, and options of transformers.TrainingArguments with defaults that suit it."""

    loss_type: str | list[str] = field(
        default="sigmoid",
        metadata=option(
            f"Loss, or several: {', '.join(_LOSSES)}.", group=MAIN, names=("--loss", "--loss-type"), metavar="NAME"
        ),
    )
    beta: float | None = field(
        default=None,
        metadata=option(
            "How strongly the policy is kept close to the reference.", group=MAIN, metavar="X", show_default="0.1"
        ),
    )
    # Rafailov et al. 2023, arXiv:2305.18290, appendix B: learning rate 1e-6 with a warmup over 150 steps.
    learning_rate: float = field(
        default=1e-6,
        metadata=option(
            "Peak learning rate.",
            group=MAIN,
            names=("--learning-rate", "--lr"),
            metavar="X",
            show_default="1e-06; 1e-05 for an adapter",
        ),
    )
    # As in the recipe of zephyr-7b-beta (alignment-handbook), which suits short runs too.
    warmup_steps: float = field(
        default=0.1,
        metadata=option(
            "Warmup of the learning rate, in steps; below 1, as a share of all steps.", group=MAIN, metavar="N"
        ),
    )
    lr_scheduler_type: str | None = field(
        default=None,
        metadata=option(
            "Schedule of the learning rate, of transformers.",
            group=MAIN,
            metavar="NAME",
            show_default="linear, with a warmup that begins above 0",
        ),
    )
    num_train_epochs: float = field(
        default=1.0,
        metadata=option(
            "Passes over the training pairs.", group=MAIN, names=("--num-train-epochs", "--epochs"), metavar="X"
        ),
    )
    max_steps: int = field(
        default=-1,
        metadata=option(
            "Optimizer steps, instead of --epochs.", group=MAIN, metavar="N", show_default="given by --epochs"
        ),
    )
    seed: int = field(default=42, metadata=option("Random seed.", group=MAIN, metavar="N"))
    loss_weights: list[float] | None = field(
        default=None, metadata=option("Weight of each loss.", group=LOSS, metavar="X", show_default="1")
    )
    f_divergence_type: Literal["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] = field(
        default="reverse_kl",
        metadata=option(
            "What keeps the policy close to the reference, for losses of the difference of log-ratios.", group=LOSS
        ),
    )
    f_alpha_divergence_coef: float = field(
        default=0.5,
        metadata=option(
            "Coefficient of alpha_divergence, which is forward_kl at 0 and reverse_kl at 1.", group=LOSS, metavar="X"
        ),
    )
    ld_alpha: float | None = field(
        default=None,
        metadata=option(
            "Weight of the tokens of a response beyond the length of the other one (LD-DPO), 0 to 1.",
            group=LOSS,
            metavar="X",
            show_default="1",
        ),
    )
    use_weighting: bool = field(
        default=False, metadata=option("Weigh pairs by how likely the policy is to write them (WPO).", group=LOSS)
    )
    pair_weights: str | None = field(
        default=None,
        metadata=option(
            "Column with the weight of each training pair; in a step they are divided by their sum.",
            group=LOSS,
            metavar="COLUMN",
            show_default="all pairs count the same",
        ),
    )
    router_aux_loss_coef: float | None = field(
        default=None,
        metadata=option(
            "Weight of the load-balancing loss of a mixture of experts.",
            group=LOSS,
            metavar="X",
            show_default="as the model's configuration says",
        ),
    )
    on_displacement: Literal["warn", "stop", "sft"] = field(
        default="warn",
        metadata=option(
            "What to do if chosen responses become unlikely while margins grow: warn, stop, or add the loss sft.",
            group=LOSS,
        ),
    )
    sync_ref_model: bool = field(
        default=False,
        metadata=option("Move the reference toward the policy at intervals (TR-DPO).", group=LOSS),
    )
    ref_model_mixup_alpha: float = field(
        default=0.6,
        metadata=option("Share of the policy in the moved reference, above 0 and up to 1.", group=LOSS, metavar="X"),
    )
    ref_model_sync_steps: int = field(
        default=512,
        metadata=option("Steps between two moves of the reference.", group=LOSS, metavar="N", minimum=1),
    )
    reference_free: bool = field(
        default=False,
        metadata=option("Compare with a reference for which all responses are equally likely.", group=LOSS),
    )
    precompute_reference: bool | None = field(
        default=None,
        metadata=option(
            "Precompute reference log-probabilities for the whole training set, not only for the rows that this run "
            "visits.",
            group=LOSS,
            show_default="if possible, for the rows it visits",
        ),
    )
    reference_cache: str | None = field(
        default=None,
        metadata=option(
            "Folder that keeps the reference log-probabilities for later runs.",
            group=LOSS,
            metavar="FOLDER",
            show_default="in the folder of the token caches",
        ),
    )
    attention_path: Literal["auto", "shared", "padded"] = field(
        default="auto",
        metadata=option(
            "Compute shared prefixes once, or pad every sequence; auto: share them if the model allows it.",
            group=BATCHES,
        ),
    )
    max_tokens_per_microbatch: int | None = field(
        default=None,
        metadata=option(
            "Maximum distinct tokens computed at a time; bounds the memory.",
            group=BATCHES,
            metavar="N",
            show_default="what memory allows",
            minimum=1,
        ),
    )
    precompute_ref_batch_size: int | None = field(
        default=None,
        metadata=option(
            "Maximum pairs in a forward pass of the reference.",
            group=BATCHES,
            metavar="N",
            show_default="what memory allows",
            minimum=1,
        ),
    )
    pad_to_multiple_of: int | None = field(
        default=None,
        metadata=option(
            "Pad sequences to a multiple of N tokens, instead of sharing prefixes.",
            group=BATCHES,
            metavar="N",
            show_default="no padding beyond the longest",
            minimum=1,
        ),
    )
    reduce_activation_memory: bool = field(
        default=True,
        metadata=option(
            "Recompute parts of gated MLPs and fuse the gradients of tied embeddings, where prefixes are shared.",
            group=BATCHES,
        ),
    )
    scatter_prompts: bool = field(
        default=False, metadata=option("Let the pairs of one prompt fall into different steps.", group=BATCHES)
    )
    bf16: bool = field(default=False, metadata=option("Compute in bfloat16 (autocast).", group=BATCHES))
    eval_steps: float | None = field(
        default=None,
        metadata=option(
            "Evaluate every N steps; below 1, a share of all steps.",
            group=EVALUATION,
            metavar="N",
            show_default="before and after training",
        ),
    )
    generate_during_eval: bool = field(
        default=False,
        metadata=option(
            "In each evaluation, generate responses and log their length and their KL divergence from the reference.",
            group=EVALUATION,
        ),
    )
    save_steps: float = field(
        default=500,
        metadata=option(
            "Save a checkpoint every N steps; below 1, a share of all steps.", group=EVALUATION, metavar="N"
        ),
    )
    logging_steps: float = field(
        default=10, metadata=option("Log the metrics every N steps.", group=EVALUATION, metavar="N")
    )
    logging_first_step: bool = field(default=True, metadata=option("Log the first step too.", group=EVALUATION))
    # In the order that transformers.HfArgumentParser can read.
    report_to: None | str | list[str] = field(  # noqa: RUF036
        default="none",
        metadata=option("Trackers: tensorboard, wandb, mlflow, ... (repeatable).", group=EVALUATION, metavar="NAME"),
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata=option(
            'Further arguments of from_pretrained for model and reference, as in \'{"attn_implementation": "sdpa"}\'.',
            group=RUN,
            metavar="JSON",
            show_default="none",
        ),
    )
    loss_options: dict[str, Any] | str | None = field(
        default=None,
        metadata=option(
            "Options of losses that a program added to LOSSES, by name.",
            group=LOSS,
            metavar="JSON",
            show_default="the losses' own",
        ),
    )
    trust_remote_code: bool = field(
        default=False,
        metadata=option("Run the Python code that comes with a model or a tokenizer.", group=RUN),
    )
