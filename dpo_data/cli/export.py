"""The command export."""

from pathlib import Path
from typing import Annotated

import typer

from dpo_data.cli.options import OUTPUT, PREPARED
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, choices, print_json, progress
from dpo_data.exports import EXPORTS
from dpo_data.options import FileFormat


def export(
    format: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help=f"One of: {', '.join(EXPORTS)}.",
            show_default=False,
            autocompletion=lambda: list(EXPORTS),
        ),
    ],
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="A prepared folder.")] = PREPARED,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.", rich_help_panel=OUTPUT),
    ] = Path("export"),
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Layout of the lines, for formats with several: trl has explicit and implicit, llamafactory sharegpt "
            "and alpaca, nemo-rl binary and ranks.",
            show_default="the first one",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    file_format: Annotated[
        FileFormat,
        typer.Option(
            metavar=choices(FileFormat), help="JSON Lines, or Parquet for the formats of TRL.", rich_help_panel=OUTPUT
        ),
    ] = "jsonl",
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss",
            help="Write pairs without what the format cannot hold, and leave out those that its reader would not take.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished export.", rich_help_panel=OUTPUT)
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write a prepared folder in the format of another trainer.

    One file per split, held against the rules of the program that reads it. If the format cannot hold something that a
    model would read or a loss would use, nothing is written unless --allow-loss is given (exit status 1).

      dpo-data export trl prepared/ -o trl/
      dpo-data export llamafactory prepared/ -o LLaMA-Factory/data/mine
      dpo-data export openai prepared/ -o openai/ --allow-loss
    """
    from dpo_data.exports.export import export as export_
    from dpo_data.reports.terminal.export import export_report
    from dpo_data.reports.terminal.tables import echo

    with progress("Exporting", quiet=quiet) as show_progress:
        report = export_(
            format,
            path,
            output=output,
            layout=layout,
            file_format=file_format,
            allow_loss=allow_loss,
            overwrite=overwrite,
            progress=show_progress,
        )
    if json:
        print_json({"path": str(output), "report": report.model_dump(mode="json")})
    elif not quiet:
        echo(export_report(report, output))
