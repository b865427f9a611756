"""The command validate."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dpo_data.cli.options import (
    CHECKS,
    INPUT,
    PREPARED,
    TOKENS,
    AgainstOption,
    AxisOption,
    CacheDirOption,
    ChatTemplateKwargsOption,
    ChatTemplateOption,
    DeepOption,
    DelimiterOption,
    EncodingOption,
    InputFormatOption,
    MapOption,
    TemplateDateOption,
    WorkersOption,
    cores,
    parse_mapping,
    read_template,
)
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, choices, print_json, progress
from dpo_data.exports import EXPORTS
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, FormChoice, Severity, parse_template_arguments
from dpo_data.sources import SOURCES


def validate(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A prepared folder, or raw pairs in any input format.")
    ] = str(PREPARED),
    source: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Source of raw rows.",
            rich_help_panel=INPUT,
            autocompletion=lambda: list(SOURCES),
        ),
    ] = "pairs",
    form: Annotated[
        FormChoice,
        typer.Option(
            "--form",
            "-f",
            metavar=choices(FormChoice),
            help="Read raw rows as strings, or as lists of {role, content} messages.",
            rich_help_panel=INPUT,
        ),
    ] = "auto",
    map: MapOption = [],  # noqa: B006
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="FORMAT",
            help=f"Hold the lines of a file against the rules of this export format instead: {', '.join(EXPORTS)}.",
            rich_help_panel=INPUT,
            autocompletion=lambda: list(EXPORTS),
        ),
    ] = None,
    axis: AxisOption = None,
    input_format: InputFormatOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    deep: DeepOption = False,
    against: AgainstOption = [],  # noqa: B006
    fail_on: Annotated[
        Severity,
        typer.Option(
            metavar=choices(Severity),
            help="Exit with status 1 on findings of at least this severity.",
            rich_help_panel=CHECKS,
        ),
    ] = "error",
    findings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write every finding to a JSON Lines file.", rich_help_panel=CHECKS),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="NAME",
            help="Report lengths in tokens of this tokenizer: a folder, or a name on the Hub.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    max_length: Annotated[
        list[int],
        typer.Option(metavar="N", help="Count the pairs longer than this (repeatable).", rich_help_panel=TOKENS),
    ] = list(DEFAULT_AUDIT_LENGTHS),  # noqa: B006
    chat_template: ChatTemplateOption = None,
    chat_template_kwargs: ChatTemplateKwargsOption = [],  # noqa: B006
    template_date: TemplateDateOption = None,
    cache_dir: CacheDirOption = None,
    workers: WorkersOption = 0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Check a dataset and report problems.

    dpo-data validate
    dpo-data validate prepared/ -t MODEL
    dpo-data validate my.jsonl --map prompt=question --fail-on warning
    dpo-data validate prepared/ --deep --against truthfulqa.csv
    dpo-data validate train.jsonl --as openai
    """
    if as_ is not None:
        _validate_as(path, as_, json=json, quiet=quiet)
    from dpo_data.inspect.validation import validate as validate_
    from dpo_data.prepared.reader import open_prepared
    from dpo_data.reports.terminal.tables import echo
    from dpo_data.reports.terminal.validate import validation

    if path == str(PREPARED) and not PREPARED.exists():
        open_prepared(path)  # its error says how to make the folder
    with progress("Validating", quiet=quiet) as show_progress:
        report = validate_(
            path,
            tokenizer=tokenizer,
            max_lengths=sorted(set(max_length)),
            source=source,
            form=form,
            mapping=parse_mapping(map),
            axis=axis,
            input_format=input_format,
            encoding=encoding,
            delimiter=delimiter,
            chat_template=read_template(chat_template),
            chat_template_kwargs=parse_template_arguments(chat_template_kwargs),
            template_date=template_date,
            cache_dir=cache_dir,
            deep=deep,
            against=against,
            findings=findings,
            workers=workers or cores(),
            progress=show_progress,
        )
    if json:
        print_json(report.model_dump(mode="json"))
    elif not quiet:
        echo(validation(report))
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    raise typer.Exit(1 if report.worst() in failing else 0)


def _validate_as(path: str, name: str, *, json: bool, quiet: bool) -> NoReturn:
    """Hold a file against the rules of an export format."""
    from dpo_data.exports.checking import check_export
    from dpo_data.reports.terminal.export import format_report
    from dpo_data.reports.terminal.tables import echo

    with progress("Validating", quiet=quiet) as show_progress:
        report = check_export(path, name, progress=show_progress)
    if json:
        print_json(report.model_dump(mode="json"))
    elif not quiet:
        echo(format_report(report))
    raise typer.Exit(1 if report.has_errors else 0)
