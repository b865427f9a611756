"""The command line of dpo-data. Imports nothing heavy before a command runs."""

from collections.abc import Callable

import typer

from dpo_data.cli.convert import convert
from dpo_data.cli.export import export
from dpo_data.cli.inspect import diff, report, show, where
from dpo_data.cli.runner import CONTEXT, EXIT_CODES, PlainCommand, PlainGroup, VersionOption, run
from dpo_data.cli.shape import apply, build, decontaminate, dedup, filter, mix, redact, sample, split
from dpo_data.cli.sources import schema, sniff, sources
from dpo_data.cli.tokenize import tokenize
from dpo_data.cli.validate import validate

COMMANDS: tuple[Callable[..., None], ...] = (
    convert,
    validate,
    tokenize,
    sources,
    sniff,
    report,
    show,
    diff,
    where,
    mix,
    dedup,
    filter,
    split,
    apply,
    sample,
    decontaminate,
    redact,
    build,
    export,
    schema,
)
#: Further names of commands, which --help leaves out.
ALIASES: dict[str, Callable[..., None]] = {"detect": sniff, "trace": where}

app = typer.Typer(
    name="dpo-data",
    cls=PlainGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would take half of the time of --help
    epilog=EXIT_CODES,
    context_settings=CONTEXT,
)
for function in COMMANDS:
    app.command(cls=PlainCommand)(function)
for alias, function in ALIASES.items():
    app.command(alias, cls=PlainCommand, hidden=True)(function)


@app.callback()
def dpo_data(version: VersionOption = False) -> None:
    """Turn raw preference data into validated pairs and cached tokens for DPO.

    Every raw row is either kept as a pair or quarantined with the reason.
    """


def main() -> None:
    """Run the command line."""
    run(app)
