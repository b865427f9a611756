"""The command line: parse, call one function, print, exit code. No logic, and nothing heavy before a command runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from dpo_data.errors import DataError, UsageError, as_flag, reading
from dpo_data.options import (
    DEFAULT_AUDIT_LENGTHS,
    DEFAULT_MAX_LENGTH,
    Axis,
    Form,
    InputFormat,
    OnError,
    OnOverlong,
    Pairing,
    Progress,
    Severity,
    SplitName,
    Tie,
    TruncationMode,
)
from dpo_data.sources import SOURCES

if TYPE_CHECKING:
    from dpo_data.tokens.cache import TokenCache

app = typer.Typer(
    name="dpo-data",
    help="Turn raw preference data into validated pairs and cached tokens for DPO. Every raw row is accounted for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # rich would be half of the time that --help takes.
    rich_markup_mode=None,
    epilog="Exit codes: 0 fine, 1 findings, 2 usage or unreadable input.",
    context_settings={"max_content_width": 120},
)

READING, PAIRING, CHECKING = "Input", "Pairing of scored or ranked responses", "Checks"
WRITING, TOKENS, OUTPUT = "Output", "Tokens", "What is printed"


class PanelCommand(TyperCommand):
    """A command whose plain help groups the options by their panels, as typer does with rich alone."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel as a section of its own."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            default = "Arguments" if param.param_type_name == "argument" else "Options"
            if record := param.get_help_record(ctx):
                panels.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(record)
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


MapOption = Annotated[
    list[str],
    typer.Option(
        "--map", help="FIELD=COLUMN, dotted into nested columns; for pairs and ranked.", rich_help_panel=READING
    ),
]
InputFormatOption = Annotated[
    InputFormat | None, typer.Option(help="Format of the input, where its name does not tell.", rich_help_panel=READING)
]
AxisOption = Annotated[
    Axis | None,
    typer.Option(help="Which judgement counts; for sources that have several.", rich_help_panel=READING),
]
FormOption = Annotated[Form, typer.Option(help="Strings, or lists of {role, content}.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes; 0 takes all cores.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Machine-readable, on standard output.", rich_help_panel=OUTPUT)
]
MaxLengthOption = Annotated[
    int, typer.Option(help="Most tokens of a prompt with its longer response; 0 cuts nothing.", rich_help_panel=TOKENS)
]
MaxPromptLengthOption = Annotated[
    int | None,
    typer.Option(
        help="Most tokens of the prompt of a pair that is too long.",
        show_default="what the responses leave",
        rich_help_panel=TOKENS,
    ),
]
TruncationModeOption = Annotated[
    TruncationMode, typer.Option(help="Which end of a prompt that is cut stays.", rich_help_panel=TOKENS)
]
OnOverlongOption = Annotated[
    OnOverlong, typer.Option(help="What to do with pairs that are too long.", rich_help_panel=TOKENS)
]
ChatTemplateOption = Annotated[
    Path | None, typer.Option(help="File with a Jinja template, for conversational data.", rich_help_panel=TOKENS)
]
DeepOption = Annotated[
    bool,
    typer.Option(
        "--deep", help="Near-duplicates, languages, personal data: the extra `checks`.", rich_help_panel=CHECKING
    ),
]
AgainstOption = Annotated[
    list[str],
    typer.Option(help="Evaluation set whose text must not stand in the data; several times.", rich_help_panel=CHECKING),
]
CacheDirOption = Annotated[
    Path | None, typer.Option(help="Where token caches go.", show_default="the prepared folder", rich_help_panel=TOKENS)
]


@app.command(cls=PanelCommand, short_help="A raw source to checked prompt/chosen/rejected pairs.")
def convert(
    source: Annotated[str, typer.Argument(help=f"One of: {', '.join(SOURCES)}.", show_default=False)],
    input: Annotated[
        list[str],
        typer.Option(
            help="File, folder, glob, URL or - for standard input; several times.",
            show_default="the source's files on the Hugging Face hub",
            rich_help_panel=READING,
        ),
    ] = [],  # noqa: B006
    sample: Annotated[
        bool, typer.Option("--sample", help="Read the embedded sample.", rich_help_panel=READING)
    ] = False,
    input_format: InputFormatOption = None,
    map: MapOption = [],  # noqa: B006
    axis: AxisOption = None,
    revision: Annotated[
        str | None,
        typer.Option(
            help="Branch, tag or commit of the files on the hub.", show_default="the newest", rich_help_panel=READING
        ),
    ] = None,
    split: Annotated[
        SplitName | None,
        typer.Option(
            help="Split of all rows; of the hub's files, the only one read.",
            show_default="read off each path",
            rich_help_panel=READING,
        ),
    ] = None,
    train_on_eval: Annotated[
        bool,
        typer.Option("--train-on-eval", help="Let an evaluation set go to train.", rich_help_panel=READING),
    ] = False,
    test_fraction: Annotated[
        float,
        typer.Option(help="Share of prompts that goes to test, over any split of the paths.", rich_help_panel=READING),
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(help="Read at most so many rows.", rich_help_panel=READING)] = None,
    pairing: Annotated[
        Pairing | None,
        typer.Option(help="Which pairs to make.", show_default="best-worst", rich_help_panel=PAIRING),
    ] = None,
    min_margin: Annotated[
        float | None,
        typer.Option(help="Least difference of scores or ranks.", show_default="0", rich_help_panel=PAIRING),
    ] = None,
    tie: Annotated[
        Tie | None,
        typer.Option(
            help="What to do with pairs of equal worth; kept ones stand in the order of the row.",
            show_default="drop",
            rich_help_panel=PAIRING,
        ),
    ] = None,
    max_pairs_per_prompt: Annotated[
        int | None,
        typer.Option(help="Of more, those with the largest margins.", show_default="all", rich_help_panel=PAIRING),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="For --pairing random.", show_default="0", rich_help_panel=PAIRING)
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option(help="Put bad rows aside with their reason, or stop at the first.", rich_help_panel=CHECKING),
    ] = "quarantine",
    max_invalid: Annotated[
        str, typer.Option(help="Share of bad rows over which the whole is rejected (exit 1).", rich_help_panel=CHECKING)
    ] = "5%",
    forbid: Annotated[
        list[str], typer.Option(help="Code of a row check that shall quarantine.", rich_help_panel=CHECKING)
    ] = [],  # noqa: B006
    allow: Annotated[
        list[str], typer.Option(help="Code of a row check that shall only warn.", rich_help_panel=CHECKING)
    ] = [],  # noqa: B006
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Put [EMAIL], [PHONE], [CARD], [KEY] in the place of what looks like one.",
            rich_help_panel=WRITING,
        ),
    ] = False,
    output: Annotated[Path, typer.Option(help="The prepared folder.", rich_help_panel=WRITING)] = Path("prepared"),
    form: FormOption = "text",
    workers: WorkersOption = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a finished folder.", rich_help_panel=WRITING)
    ] = False,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Go straight on to tokens: name or folder of a tokenizer.", rich_help_panel=TOKENS),
    ] = None,
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = "keep_end",
    on_overlong: OnOverlongOption = "truncate",
    chat_template: ChatTemplateOption = None,
    cache_dir: CacheDirOption = None,
    json: JsonOption = False,
) -> None:
    """Turn a raw source into a prepared folder: checked prompt/chosen/rejected pairs, and quarantine for the rest.

    \b
    dpo-data convert hh-rlhf --sample --output prepared/
    dpo-data convert hh-rlhf --input harmless-base/test.jsonl.gz --output prepared/
    dpo-data convert nectar --input data/ --pairing best-rest --max-pairs-per-prompt 3
    dpo-data convert pairs --input my.csv --map prompt=question --map chosen=good --map rejected=bad
    """
    from dpo_data.conversion.convert import convert as convert_
    from dpo_data.reports.terminal import tables as terminal

    loaded = None
    if tokenizer is not None:
        from dpo_data.tokens.cache import load_checked_tokenizer
        from dpo_data.tokens.truncation import check_limits

        # What cannot be tokenized is refused before a long conversion, not after it.
        check_limits(max_length or None, max_prompt_length)
        loaded = load_checked_tokenizer(tokenizer, form, _read_template(chat_template), data=output)
    with _progress("Converting") as progress:
        manifest = convert_(
            source,
            input,
            output=output,
            sample=sample,
            form=form,
            mapping=_mapping(map),
            axis=axis,
            revision=revision,
            split=split,
            train_on_eval=train_on_eval,
            input_format=input_format,
            test_fraction=test_fraction,
            limit=limit,
            pairing=pairing,
            min_margin=min_margin,
            tie=tie,
            max_pairs_per_prompt=max_pairs_per_prompt,
            seed=seed,
            on_error=on_error,
            max_invalid=_share("--max-invalid", max_invalid),
            forbid=forbid,
            allow=allow,
            redact=redact,
            workers=workers or _cores(),
            overwrite=overwrite,
            progress=progress,
        )
    if not json:
        terminal.show(terminal.conversion(manifest, output))
    cache = None
    if loaded is not None and manifest.status == "complete":
        cache = _tokenize(
            output, loaded, max_length, max_prompt_length, truncation_mode, on_overlong, chat_template, cache_dir
        )
        if not json:
            terminal.show(terminal.tokens(cache))
    if json:
        _print_json({"path": str(output), "manifest": manifest.model_dump(mode="json"), "tokens": _cache_json(cache)})
    raise typer.Exit(0 if manifest.status == "complete" else 1)


@app.command(cls=PanelCommand, short_help="What is in a data set, and what is wrong with it.")
def validate(
    path: Annotated[
        str, typer.Argument(help="A prepared folder, or raw pairs in any input format.", show_default=False)
    ],
    tokenizer: Annotated[
        str | None, typer.Option(help="Name or folder of a tokenizer, for lengths in tokens.", rich_help_panel=TOKENS)
    ] = None,
    max_length: Annotated[
        list[int],
        typer.Option(help="Count the pairs that this length would cut; several times.", rich_help_panel=TOKENS),
    ] = list(DEFAULT_AUDIT_LENGTHS),  # noqa: B006
    chat_template: ChatTemplateOption = None,
    cache_dir: CacheDirOption = None,
    source: Annotated[str, typer.Option(help="Source of raw rows.", rich_help_panel=READING)] = "pairs",
    form: FormOption = "text",
    map: MapOption = [],  # noqa: B006
    axis: AxisOption = None,
    input_format: InputFormatOption = None,
    deep: DeepOption = False,
    against: AgainstOption = [],  # noqa: B006
    fail_on: Annotated[Severity, typer.Option(help="Gravity from which the exit code is 1.")] = "error",
    workers: WorkersOption = 0,
    json: JsonOption = False,
) -> None:
    """Say what is in a data set, what is wrong with it, and what would happen to it in training.

    \b
    dpo-data validate prepared/ --tokenizer M
    dpo-data validate my.jsonl --map prompt=question --fail-on warning
    dpo-data validate prepared/ --deep --against truthfulqa.csv
    """
    from dpo_data.inspect.validation import validate as validate_
    from dpo_data.reports.terminal import tables as terminal

    with _progress("Validating") as progress:
        report = validate_(
            path,
            tokenizer=tokenizer,
            max_lengths=sorted(set(max_length)),
            source=source,
            form=form,
            mapping=_mapping(map),
            axis=axis,
            input_format=input_format,
            chat_template=_read_template(chat_template),
            cache_dir=cache_dir,
            deep=deep,
            against=against,
            workers=workers or _cores(),
            progress=progress,
        )
    if json:
        _print_json(report.model_dump(mode="json"))
    else:
        terminal.show(terminal.validation(report))
    failing = ("error",) if fail_on == "error" else ("error", "warning")
    raise typer.Exit(1 if report.worst() in failing else 0)


@app.command(cls=PanelCommand, short_help="A prepared folder to cached token ids, cut to length.")
def tokenize(
    path: Annotated[Path, typer.Argument(help="A prepared folder.", show_default=False)],
    tokenizer: Annotated[str, typer.Option(help="Name or folder of a tokenizer.", show_default=False)],
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = "keep_end",
    on_overlong: OnOverlongOption = "truncate",
    chat_template: ChatTemplateOption = None,
    cache_dir: CacheDirOption = None,
    json: JsonOption = False,
) -> None:
    """Cut and tokenize a prepared folder once, into memory-mapped token ids that a trainer takes as they are.

    \b
    dpo-data tokenize prepared/ --tokenizer M --max-length 512 --max-prompt-length 128
    """
    from dpo_data.reports.terminal import tables as terminal

    cache = _tokenize(
        path, tokenizer, max_length, max_prompt_length, truncation_mode, on_overlong, chat_template, cache_dir
    )
    if json:
        _print_json(_cache_json(cache))
    else:
        terminal.show(terminal.tokens(cache))


@app.command(cls=PanelCommand, short_help="The sources that convert knows, and their licenses.")
def sources(json: JsonOption = False) -> None:
    """List the sources that convert knows: which response each prefers, its license, and where it comes from."""
    from dpo_data.reports.terminal import tables as terminal
    from dpo_data.sources import list_sources

    entries = list_sources()
    if json:
        _print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        terminal.show(terminal.sources(entries))


@app.command(cls=PanelCommand, short_help="Which source a raw file is of.")
def sniff(
    file: Annotated[str, typer.Argument(help="A raw file, folder, glob or URL.", show_default=False)],
    input_format: InputFormatOption = None,
    json: JsonOption = False,
) -> None:
    """Name the source that a raw file is of, with what convert would do, or write a command for pairs or ranked.

    Exit code 1 where no source fits.
    """
    from dpo_data.conversion.detect import sniff as sniff_
    from dpo_data.reports.terminal import tables as terminal

    found = sniff_(file, input_format=input_format)
    if json:
        _print_json(found.model_dump(mode="json"))
    else:
        terminal.show(terminal.sniffed(found))
        typer.echo(found.command)
    raise typer.Exit(0 if found.source else 1)


@app.command(cls=PanelCommand, short_help="One page to look at: rows, pairs, biases, truncation.")
def report(
    path: Annotated[Path, typer.Argument(help="A prepared folder.", show_default=False)],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Name or folder of a tokenizer: lengths in tokens, and what would be cut.", rich_help_panel=TOKENS
        ),
    ] = None,
    max_length: Annotated[
        list[int],
        typer.Option(
            help="Cut the pairs to this length, and count what is lost; several times.", rich_help_panel=TOKENS
        ),
    ] = list(DEFAULT_AUDIT_LENGTHS),  # noqa: B006
    max_prompt_length: MaxPromptLengthOption = None,
    chat_template: ChatTemplateOption = None,
    cache_dir: CacheDirOption = None,
    deep: DeepOption = False,
    against: AgainstOption = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option(
            help="The page; the same as JSON goes beside it.",
            show_default="report.html in the folder",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write report.html: what came in, what became of it, what the pairs are like, with examples behind every number.

    \b
    dpo-data report prepared/ --tokenizer M
    """
    from dpo_data.inspect.report_data import report as report_
    from dpo_data.reports.html.page import HTML_NAME, write_page
    from dpo_data.reports.terminal import summaries
    from dpo_data.reports.terminal import tables as terminal

    with _progress("Reading") as progress:
        content = report_(
            path,
            tokenizer=tokenizer,
            max_lengths=max_length,
            max_prompt_length=max_prompt_length,
            chat_template=_read_template(chat_template),
            cache_dir=cache_dir,
            deep=deep,
            against=against,
            progress=progress,
        )
    page = write_page(content, path / HTML_NAME if output is None else output)
    if json:
        _print_json(content.model_dump(mode="json"))
    else:
        terminal.show(summaries.data_report(content, page))


@app.command(cls=PanelCommand, short_help="One pair, its tokens, its origin; or the worst of a run.")
def show(
    path: Annotated[Path, typer.Argument(help="A prepared folder.", show_default=False)],
    row: Annotated[
        str | None,
        typer.Argument(
            help="train:12 or 12, as dataset['train'][12]; or an origin, file:line.", show_default="with --id or --find"
        ),
    ] = None,
    id: Annotated[str | None, typer.Option(help="Id of a pair, or how it begins.")] = None,
    find: Annotated[str | None, typer.Option(help="What its texts hold, in any case; quarantine too.")] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Show the tokens that the trainer sees: name or folder.", rich_help_panel=TOKENS),
    ] = None,
    max_length: MaxLengthOption = DEFAULT_MAX_LENGTH,
    max_prompt_length: MaxPromptLengthOption = None,
    truncation_mode: TruncationModeOption = "keep_end",
    chat_template: ChatTemplateOption = None,
    cache_dir: CacheDirOption = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of a dpo-train run: the pairs it disagrees with most.")
    ] = None,
    worst: Annotated[int, typer.Option(help="How many pairs of the run.")] = 20,
    json: JsonOption = False,
) -> None:
    """Show one pair with its origin, as texts side by side or as tokens; or the pairs that a model disagrees with most.

    \b
    dpo-data show prepared/ train:12
    dpo-data show prepared/ test.jsonl:87 --tokenizer M --max-length 512
    dpo-data show prepared/ --find "how do I"
    dpo-data show prepared/ --run run/ --worst 20
    """
    from dpo_data.inspect.run_pairs import worst_pairs
    from dpo_data.inspect.search import find_to_show
    from dpo_data.reports.terminal import pairs as pair_views
    from dpo_data.reports.terminal import tables as terminal

    if run is not None:
        if (row, id, find, tokenizer) != (None, None, None, None):
            raise UsageError("--run shows the worst pairs of a run: leave out the row, --id, --find and --tokenizer.")
        judged = worst_pairs(path, run, count=worst)
        if json:
            _print_json([pair._asdict() for pair in judged])
        else:
            terminal.show(terminal.judged_pairs(judged))
        return
    found = find_to_show(
        path,
        row=row,
        id_=id,
        text=find,
        tokenizer=tokenizer,
        max_length=max_length or None,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        chat_template=_read_template(chat_template),
        cache_dir=cache_dir,
    )
    if json:
        _print_json(found.as_json())
    else:
        terminal.show(pair_views.found(found, find))


@app.command(cls=PanelCommand, short_help="How two prepared folders differ.")
def diff(
    a: Annotated[Path, typer.Argument(help="A prepared folder.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Compare two prepared folders: pairs added, removed, flipped, changed and moved, and what shifts with them.

    Exit code 0 where they hold the same pairs in the same splits, 1 where they differ, as diff(1).
    """
    from dpo_data.inspect.diff import compare
    from dpo_data.reports.terminal import summaries
    from dpo_data.reports.terminal import tables as terminal

    with _progress("Comparing") as progress:
        found = compare(a, b, progress=progress)
    if json:
        _print_json(found.model_dump(mode="json"))
    else:
        terminal.show(summaries.comparison(found))
    raise typer.Exit(0 if found.same else 1)


@app.command(cls=PanelCommand, short_help="Which prepared folders and runs used a pair.")
def where(
    id: Annotated[str, typer.Argument(help="Id of a pair, or how it begins.", show_default=False)],
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Prepared folders and folders of runs.", show_default=False)
    ],
    json: JsonOption = False,
) -> None:
    """Say which of these prepared folders and runs used a pair, where it stands there, and how it was judged.

    Exit code 1 where none did.
    """
    from dpo_data.inspect.where import find_uses
    from dpo_data.reports.terminal import summaries
    from dpo_data.reports.terminal import tables as terminal

    found = find_uses(id, paths)
    if json:
        _print_json([use.model_dump(mode="json") for use in found])
    elif found:
        terminal.show(summaries.uses(found))
    else:
        typer.echo(f"No pair with id {id} in {', '.join(map(str, paths))}.")
    raise typer.Exit(0 if found else 1)


@app.command(cls=PanelCommand, short_help="JSON Schemas of what is written, with examples.")
def schema(
    output: Annotated[Path, typer.Option(help="Folder for the schemas and their examples.")] = Path("schemas"),
) -> None:
    """Write the JSON Schemas of pairs, manifest, quarantine rows and reports, each with a real example."""
    from dpo_data.schemas import write_schemas

    for path in write_schemas(output):
        typer.echo(path)


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    # Texts out of the data may hold what the terminal's encoding lacks; escaped they do no harm.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except DataError as error:
        typer.echo(f"Error: {error.spelled(as_flag)}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output is gone; Python would complain once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _tokenize(
    path: Path,
    tokenizer: Any,
    max_length: int,
    max_prompt_length: int | None,
    truncation_mode: TruncationMode,
    on_overlong: OnOverlong,
    chat_template: Path | None,
    cache_dir: Path | None,
) -> "TokenCache":
    from dpo_data.tokens.cache import tokenize as tokenize_

    with _progress("Tokenizing") as progress:
        return tokenize_(
            path,
            tokenizer=tokenizer,
            max_length=max_length or None,
            max_prompt_length=max_prompt_length,
            truncation_mode=truncation_mode,
            on_overlong=on_overlong,
            chat_template=_read_template(chat_template),
            cache_dir=cache_dir,
            progress=progress,
        )


@contextmanager
def _progress(task: str) -> Iterator[Progress]:
    """A progress bar on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        id_ = bar.add_task(task, total=None, rows=0)
        yield lambda fraction, rows: bar.update(
            id_, total=None if fraction is None else 1.0, completed=fraction or 0.0, rows=rows
        )


def _mapping(pairs: list[str]) -> dict[str, str]:
    mapping = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise UsageError(f"--map {pair}: is not FIELD=COLUMN, as in --map prompt=question.")
        mapping[field] = column
    return mapping


def _share(option: str, text: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UsageError(f"{option} {text}: is no share, as in {option} 5% or {option} 0.05.") from error


def _read_template(path: Path | None) -> str | None:
    if path is None:
        return None
    with reading(path):
        return path.read_text(encoding="utf-8")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cache_json(cache: "TokenCache | None") -> dict[str, Any] | None:
    if cache is None:
        return None
    return {"path": str(cache.path), "hit": cache.hit, "manifest": cache.manifest.model_dump(mode="json")}


def _print_json(content: Any) -> None:
    import json

    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    typer.echo(json.dumps(content, indent=2, ensure_ascii=ascii_only))
