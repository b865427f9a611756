"""The commands about sources and formats: sources, sniff and schema."""

from pathlib import Path
from typing import Annotated

import typer

from dpo_data.cli.options import DelimiterOption, EncodingOption, InputFormatOption
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, print_json
from dpo_data.escapes import visible, without_secrets

#: Width of the list of sources when standard output is not a terminal: each is on one line.
LINE_WIDTH = 500


def sources(json: JsonOption = False, quiet: QuietOption = False, verbose: VerboseOption = False) -> None:
    """List supported sources.

    Each with the response it prefers, its license, and where it comes from.
    """
    from dpo_data.reports.terminal.sources import sources as source_table
    from dpo_data.reports.terminal.tables import echo
    from dpo_data.sources import list_sources

    entries = list_sources()
    if json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        echo(source_table(entries), plain_width=LINE_WIDTH)


def sniff(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A raw file, folder, glob or URL.", show_default=False)],
    input_format: InputFormatOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Detect the source of a raw file.

    Tries conversions on the first rows and prints the command of the one that reads them best. If none can read them,
    prints a command to complete, and exits with status 1.
    """
    from dpo_data.conversion.detect import sniff as sniff_
    from dpo_data.reports.terminal.sources import detected_source
    from dpo_data.reports.terminal.tables import echo

    found = sniff_(file, input_format=input_format, encoding=encoding, delimiter=delimiter)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        echo(detected_source(found))
        if without_secrets(file) != file:
            typer.echo("The URL is shown without its user, password and query: add them to run the command.", err=True)
        typer.echo(visible(found.command))
    raise typer.Exit(0 if found.complete else 1)


def schema(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the schemas and their examples.")
    ] = Path("schemas"),
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write the JSON Schemas of the file formats.

    One for pairs, manifest, quarantine rows and each report, with an example.
    """
    from dpo_data.schemas import write_schemas

    for path in write_schemas(output):
        if not quiet:
            typer.echo(path)
