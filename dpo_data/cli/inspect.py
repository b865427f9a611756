"""The commands that look into finished folders: report, show, diff and where."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpo_data.cli.options import (
    OUTPUT,
    PREPARED,
    TOKENS,
    AgainstOption,
    ByOption,
    CacheDirOption,
    ChatTemplateKwargsOption,
    ChatTemplateOption,
    DeepOption,
    KeepSystemOption,
    MaxLengthOption,
    MaxPromptLengthOption,
    PreparedArgument,
    TemplateDateOption,
    TruncationModeOption,
    TruncationUnitOption,
    read_template,
)
from dpo_data.cli.runner import JsonOption, QuietOption, VerboseOption, print_json, progress
from dpo_data.errors import UsageError, argument
from dpo_data.escapes import visible
from dpo_data.options import DEFAULT_AUDIT_LENGTHS, DEFAULT_MAX_LENGTH, parse_template_arguments

if TYPE_CHECKING:
    from dpo_data.inspect.search import SearchResult

SELECTION, DECISION = "Selection", "Decision"


def report(
    path: PreparedArgument = PREPARED,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="NAME",
            help="Report lengths in tokens of this tokenizer, and what truncation removes: a folder, or a name on the "
            "Hub.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    max_length: Annotated[
        list[int],
        typer.Option(
            metavar="N", help="Truncate to this length and count what is lost (repeatable).", rich_help_panel=TOKENS
        ),
    ] = list(DEFAULT_AUDIT_LENGTHS),  # noqa: B006
    max_prompt_length: MaxPromptLengthOption = None,
    chat_template: ChatTemplateOption = None,
    chat_template_kwargs: ChatTemplateKwargsOption = [],  # noqa: B006
    template_date: TemplateDateOption = None,
    cache_dir: CacheDirOption = None,
    deep: DeepOption = False,
    against: AgainstOption = [],  # noqa: B006
    by: ByOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Page to write; the same content goes to a JSON file next to it.",
            show_default="report.html in the folder",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Write an HTML report.

    It shows the rows that came in and what became of them, and what the pairs are like, with examples.

      dpo-data report
      dpo-data report prepared/ -t MODEL
    """
    from dpo_data.inspect.report_data import report as report_
    from dpo_data.reports.html.page import HTML_NAME, write_page
    from dpo_data.reports.terminal.report import data_report
    from dpo_data.reports.terminal.tables import echo

    with progress("Reading", quiet=quiet) as show_progress:
        content = report_(
            path,
            tokenizer=tokenizer,
            max_lengths=max_length,
            max_prompt_length=max_prompt_length,
            chat_template=read_template(chat_template),
            chat_template_kwargs=parse_template_arguments(chat_template_kwargs),
            template_date=template_date,
            cache_dir=cache_dir,
            deep=deep,
            against=against,
            by=by,
            progress=show_progress,
        )
    page = write_page(content, path / HTML_NAME if output is None else output)
    if json:
        print_json(content.model_dump(mode="json"))
    elif not quiet:
        echo(data_report(content, page))


def show(
    path: PreparedArgument = PREPARED,
    row: Annotated[
        str | None,
        typer.Argument(
            metavar="ROW", help="train:12 or 12 for dataset['train'][12], or an origin, file:line.", show_default=False
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Show the pair with this id, or a unique prefix of one.", rich_help_panel=SELECTION
        ),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Search pairs and quarantine for this text, ignoring case.", rich_help_panel=SELECTION
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Show the pairs that this run of dpo-train ranks worst.", rich_help_panel=SELECTION
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(metavar="N", help="Number of pairs to show with --run.", rich_help_panel=SELECTION)
    ] = 20,
    flag: Annotated[
        str | None,
        typer.Option(
            metavar="drop|flip|keep|tag=TEXT",
            help="Append a decision about this pair to the file of --decisions, for `dpo-data apply`.",
            rich_help_panel=DECISION,
        ),
    ] = None,
    note: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Note to the decision.", rich_help_panel=DECISION)
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAME", help="Who decides.", rich_help_panel=DECISION)] = "",
    decisions: Annotated[
        Path, typer.Option(metavar="FILE", help="File of decisions.", rich_help_panel=DECISION)
    ] = Path("decisions.jsonl"),
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="NAME",
            help="Show the pair as tokens of this tokenizer: a folder, or a name on the Hub.",
            rich_help_panel=TOKENS,
        ),
    ] = None,
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = None,
    truncation_unit: TruncationUnitOption = None,
    keep_system: KeepSystemOption = None,
    chat_template: ChatTemplateOption = None,
    chat_template_kwargs: ChatTemplateKwargsOption = [],  # noqa: B006
    template_date: TemplateDateOption = None,
    cache_dir: CacheDirOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a pair, or the pairs a run ranks worst.

    dpo-data show train:12
    dpo-data show prepared/ test.jsonl:87 -t MODEL --max-length 512
    dpo-data show prepared/ --find "how do I"
    dpo-data show prepared/ --run run/ --worst 20
    dpo-data show prepared/ test:7 --flag flip --note "Chosen is wrong."
    """
    from dpo_data.inspect.run_pairs import worst_pairs
    from dpo_data.inspect.search import show as show_
    from dpo_data.reports.terminal.show import judged_pairs, search_result
    from dpo_data.reports.terminal.tables import echo

    if row is None and not path.exists() and (":" in str(path) or str(path).isdigit()):
        path, row = PREPARED, str(path)
    if run is not None:
        if (row, id, find, tokenizer) != (None, None, None, None):
            others = ", ".join(argument(name) for name in ("id", "find", "tokenizer"))
            raise UsageError(f"cannot be combined with a row, {others}.", "run")
        judged = worst_pairs(path, run, count=worst)
        if json:
            print_json([pair._asdict() for pair in judged])
        else:
            echo(judged_pairs(judged))
        return
    found = show_(
        path,
        row=row,
        id_=id,
        text=find,
        tokenizer=tokenizer,
        max_length=max_length or None,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        truncation_unit=truncation_unit,
        keep_system=keep_system,
        chat_template=read_template(chat_template),
        chat_template_kwargs=parse_template_arguments(chat_template_kwargs),
        template_date=template_date,
        cache_dir=cache_dir,
    )
    if flag is not None:
        _flag(found, flag, note, by, decisions)
    if json:
        print_json(found.as_json())
    else:
        echo(search_result(found, find))
        if flag is not None:
            typer.echo(f"Decision appended to {decisions}.")


def _flag(found: "SearchResult", flag: str, note: str | None, by: str, decisions: Path) -> None:
    """Append a decision about the only pair that was found."""
    from datetime import UTC, datetime

    from pydantic import ValidationError

    from dpo_data.shaping.decisions import Decision, append_decision

    action, equals, text = flag.partition("=")
    ids = {pair.row.id for pair in found.pairs}
    if len(ids) != 1 or found.pairs_found > len(found.pairs):
        raise UsageError(f"a decision is about one pair, and {found.pairs_found:,} were found.", "flag", flag)
    fields = {"id": ids.pop(), "action": action, "text": text if equals else None, "note": note, "by": by}
    try:
        decision = Decision.model_validate(fields | {"time": datetime.now(UTC).isoformat(timespec="seconds")})
    except ValidationError as error:
        raise UsageError("choose from drop, flip, keep, tag=TEXT.", "flag", flag) from error
    append_decision(decisions, decision)


def diff(
    a: Annotated[Path, typer.Argument(metavar="FOLDER", help="A prepared folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="OTHER", help="The folder to compare it with.", show_default=False)],
    by: ByOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Compare two prepared folders.

    Lists the pairs that were added, removed, flipped, changed and moved, and the statistics that changed. Exits with
    status 0 if both hold the same pairs in the same splits and 1 if they differ, like diff(1).
    """
    from dpo_data.inspect.diff import diff as diff_
    from dpo_data.reports.terminal.diff import comparison
    from dpo_data.reports.terminal.tables import echo

    with progress("Comparing", quiet=quiet) as show_progress:
        found = diff_(a, b, by=by, progress=show_progress)
    if json:
        print_json(found.model_dump(mode="json"))
    elif not quiet:
        echo(comparison(found))
    raise typer.Exit(0 if found.same else 1)


def where(
    id: Annotated[str, typer.Argument(metavar="ID", help="Pair id, or a unique prefix of one.", show_default=False)],
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="Prepared folders and folders of runs.", show_default=False),
    ],
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Find where a pair was used.

    Lists its rows in these prepared folders and runs, and how each run judged it. Exits with status 1 if there are
    none.
    """
    from dpo_data.inspect.where import where as where_
    from dpo_data.reports.terminal.tables import echo
    from dpo_data.reports.terminal.where import uses

    found = where_(id, paths)
    if json:
        print_json([use.model_dump(mode="json") for use in found])
    elif found:
        echo(uses(found))
    elif not quiet:
        typer.echo(visible(f"No pair with id {id} in {', '.join(map(str, paths))}."))
    raise typer.Exit(0 if found else 1)
