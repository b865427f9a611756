"""The command line of dpo-train. Loads torch and transformers only when a run starts."""

import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from dpo_data.cli.runner import (
    CONTEXT,
    EXIT_CODES,
    JsonOption,
    PlainCommand,
    QuietOption,
    VerboseOption,
    VersionOption,
    print_json,
    run,
)
from dpo_data.errors import UsageError, did_you_mean, reading, require_packages
from dpo_train.options import GROUPS, MAIN, RUN, DPOOptions, LossOptions, added_options
from dpo_train.run.options import RunOptions

#: Packages that a run needs beyond the dependencies of dpo-data.
PACKAGES = ("torch", "accelerate", "matplotlib", "xxhash")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="YAML file with any of these options; options on the command line override it.",
        rich_help_panel=MAIN,
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check everything, print the plan, and write nothing.", rich_help_panel=RUN)
]
HelpAllOption = Annotated[
    bool, typer.Option("--help-all", help="Show the options of transformers.TrainingArguments too, and exit.")
]


class TrainCommand(PlainCommand):
    """The command dpo-train: its own options, the same ones from a YAML file, and all of TrainingArguments.

    The options of transformers.TrainingArguments are added when a word needs them, as that loads transformers. The
    values given for them are in `ctx.obj`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, on top of the options in the file of --config."""
        if ctx.resilient_parsing:  # a shell completes a word
            return super().parse_args(ctx, args)
        file, options = _config_file(args)
        words = {_plain(word) for word in args if word.startswith("--")}
        further: list[Any] = []
        if not {*words, *options} <= self._known(ctx).keys() or "help_all" in words:
            further = _training_parameters()
            self.params += further
        known = self._known(ctx)
        args = _repeated(args, {name for name, parameter in known.items() if parameter.multiple})
        for name in options:
            if name not in known:
                raise UsageError(f"{file}: there is no option {name}.{did_you_mean(name, known)}")
        ctx.default_map = {known[name].name: _value(value, known[name], file) for name, value in options.items()}
        try:
            rest = super().parse_args(ctx, ["--help"] if "help_all" in words else args)
        except typer.BadParameter as error:
            wrong = getattr(error.param, "name", None)
            if wrong in ctx.default_map.keys() - {known[word].name for word in words if word in known}:
                error.message = f"{file}: {ctx.default_map[wrong]}: {error.message}"
            raise
        values = {parameter.name: ctx.params.pop(parameter.name) for parameter in further}
        ctx.obj = {name: value for name, value in values.items() if _is_given(ctx, name)}
        return rest

    def _known(self, ctx: Any) -> dict[str, Any]:
        """Return the parameter behind each name of an option, as a file has it: learning_rate, lr."""
        parameters = self.get_params(ctx)
        return {_plain(name): each for each in parameters for name in (*each.opts, *each.secondary_opts)}


def _plain(word: str) -> str:
    """Return the name of an option as a file has it.

    >>> _plain("--learning-rate=1e-6")
    'learning_rate'
    """
    return word.partition("=")[0].lstrip("-").replace("-", "_")


def _repeated(args: Sequence[str], repeatable: Collection[str]) -> list[str]:
    """Return the words of the command line with an option before each of its values, for options that may be repeated.

    >>> _repeated(["--loss", "sigmoid", "sft", "--beta", "0.1"], {"loss"})
    ['--loss', 'sigmoid', '--loss', 'sft', '--beta', '0.1']
    """
    words: list[str] = []
    option: str | None = None
    for word in args:
        if word.startswith("-"):
            option = word if _plain(word) in repeatable and "=" not in word else None
        elif option is not None and words[-1] != option:
            words.append(option)
        words.append(word)
    return words


def _is_given(context: Any, name: str) -> bool:
    """Return True if an option was given on the command line or in a file."""
    return bool(context.get_parameter_source(name).name != "DEFAULT")


def _config_file(args: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the file that --config names, and its options by name."""
    file = ""
    for word, after in zip(args, [*args[1:], ""], strict=True):
        if word.startswith("--") and _plain(word) == "config":
            file = word.partition("=")[2] if "=" in word else after
    if not file:
        return "", {}
    import yaml

    with reading(file):
        text = Path(file).read_text(encoding="utf-8")
    try:
        options = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: cannot be read as YAML: {error}") from error
    if not isinstance(options, dict):
        raise UsageError(f"{file}: must map option names to values, but holds a {type(options).__name__}.")
    return file, {_plain(str(name)): value for name, value in options.items() if value is not None}


def _value(value: Any, parameter: Any, file: str) -> Any:
    """Return a value of a YAML file as its option takes it."""
    if isinstance(value, dict):
        return [json.dumps(value)] if parameter.multiple else json.dumps(value)
    if parameter.multiple:
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, list):
        raise UsageError(f"{file}: {parameter.name} takes one value, not a list.")
    return value


def _option(field: Any) -> inspect.Parameter:
    """Return a field of a dataclass as a parameter from which typer makes an option."""
    described: Mapping[str, Any] = field.metadata
    kind, is_list = _option_type(field.type)
    default = field.default.value if isinstance(field.default, Enum) else field.default
    if default is dataclasses.MISSING:
        default = inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else None
    shown = described.get("show_default", default is not None)
    if kind is bool:
        default = default if isinstance(default, bool) else None
        shown = {True: "on", False: False, None: shown if isinstance(shown, str) else "unset"}[default]
    if is_list:
        is_required = default is inspect.Parameter.empty
        kind, shown = list[kind], False if is_required else default or False  # type: ignore[valid-type]
        default = default if is_required else None
    dashed = field.name.replace("_", "-")
    usual = [f"--{dashed}/--no-{dashed}" if kind is bool else f"--{dashed}"]
    values = "|".join(get_args(kind)) if get_origin(kind) is Literal else None
    annotation = Annotated[  # type: ignore[valid-type]
        kind | None if default is None else kind,
        typer.Option(
            *(described.get("names") or usual),
            help=" ".join(described.get("help", "").replace("%%", "%").split()),  # argparse's escape
            metavar=values or described.get("metavar") or {int: "N", float: "X", Path: "FILE"}.get(kind, "TEXT"),
            show_default=shown,
            min=described.get("minimum"),
            rich_help_panel=described.get("group", "Further options, of transformers.TrainingArguments"),
        ),
    ]
    return _parameter(field.name, annotation, default)


def _option_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type of an option's value, and whether the option is repeatable.

    >>> _option_type(int | None), _option_type(None | str | list[str]), _option_type(list[float])
    ((<class 'int'>, False), (<class 'str'>, True), (<class 'float'>, True))
    """
    kinds = [annotation] if get_origin(annotation) in (list, dict, Literal, None) else list(get_args(annotation))
    for kind in kinds:
        if get_origin(kind) is list:
            (item,) = get_args(kind) or (str,)
            return (item if item in (int, float, Path) else str), True
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            return Literal[tuple(member.value for member in kind)], False
        if get_origin(kind) is Literal and all(isinstance(value, str) for value in get_args(kind)):
            return kind, False
    return next((kind for kind in (bool, int, float, Path) if kind in kinds), str), False


def _group(field: Any) -> Any:
    return field.metadata.get("group")


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _with_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def _training_parameters() -> list[Any]:
    """Return the options of transformers.TrainingArguments for which dpo-train has none of its own."""
    require_packages("dpo-train", *PACKAGES)
    from dpo_train.config import DPOConfig
    from dpo_train.losses import LOSSES

    own = {*_names(RunOptions), *_TRAINING, "output_dir"}
    fields = [field for field in dataclasses.fields(DPOConfig) if field.init and field.name not in own]
    fields += dataclasses.fields(added_options(LOSSES))
    holder = typer.Typer(add_completion=False)
    holder.command()(_with_signature(lambda: None, [_option(field) for field in fields]))
    return list(typer.main.get_command(holder).params)


def _names(options: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(options) if _group(field)]


#: Options that become fields of `DPOConfig`.
_TRAINING = [*_names(DPOOptions), *_names(LossOptions)]
_FIELDS = [field for options in (RunOptions, DPOOptions, LossOptions) for field in dataclasses.fields(options)]
_OPTIONS = [_option(field) for field in sorted(filter(_group, _FIELDS), key=lambda field: GROUPS.index(_group(field)))]


def run_options(context: Any, values: Mapping[str, Any]) -> RunOptions:
    """Return the options of a run from the values of a parsed command line."""
    training = {name: values[name] for name in _TRAINING if _is_given(context, name)} | context.obj
    training = {name: list(value) if isinstance(value, tuple) else value for name, value in training.items()}
    return RunOptions(**{name: values[name] for name in _names(RunOptions)}, training=training)


def train(context: typer.Context, **values: Any) -> None:
    """Train a model with DPO on a prepared folder.

    dpo-train --data prepared/ --model MODEL
    dpo-train --data prepared/ --model MODEL --loss ipo --lr 5e-7 --epochs 2
    dpo-train --config run.yaml --output run2/

    Every other field of transformers.TrainingArguments is an option too; --help-all lists them.
    """
    require_packages("dpo-train", *PACKAGES)
    first_process = os.environ.get("RANK", "0") == "0"

    def say(line: str) -> None:
        if first_process and not values["quiet"]:
            typer.echo(line, err=True)

    if "torch" not in sys.modules:
        say("loading    torch and transformers")
    from dpo_train.run.describe import show_plan, show_result
    from dpo_train.run.plan import plan
    from dpo_train.run.train import run as run_

    options = run_options(context, values)
    try:
        result: Any = plan(options, say) if values["dry_run"] else run_(options, say, quiet=values["quiet"])
    except KeyboardInterrupt as stopped:
        if not values["dry_run"]:
            stopped.add_note("Resume from the latest checkpoint, if one was saved: --resume.")
        raise
    if not first_process:
        return
    if values["json"]:
        print_json(json.loads(json.dumps(dataclasses.asdict(result), default=str)))
    elif not values["quiet"]:
        (show_plan if values["dry_run"] else show_result)(result)


app = typer.Typer(name="dpo-train", pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("dpo-train", cls=TrainCommand, no_args_is_help=True, epilog=EXIT_CODES, context_settings=CONTEXT)(
    _with_signature(
        train,
        [
            _parameter("context", typer.Context, inspect.Parameter.empty),
            *_OPTIONS,
            _parameter("config", ConfigOption, None),
            _parameter("dry_run", DryRunOption, False),
            _parameter("json", JsonOption, False),
            _parameter("quiet", QuietOption, False),
            _parameter("verbose", VerboseOption, False),
            _parameter("version", VersionOption, False),
            _parameter("help_all", HelpAllOption, False),
        ],
    )
)


def main() -> None:
    """Run the command line."""
    run(app)
