"""Base of both command lines, dpo-data and dpo-train: help, suggestions, errors as exit codes, progress."""

import errno
import re
import signal
import sys
import textwrap
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from dpo_data.errors import DataError, as_flag, did_you_mean, first_line
from dpo_data.escapes import escaped_json, visible, without_secrets
from dpo_data.options import Progress

EXIT_CODES = "Exit codes: 0 fine, 1 findings, 2 usage or unreadable input, 130 stopped with Ctrl-C."
CONTEXT = {"help_option_names": ["--help", "-h"], "max_content_width": 120}

#: Arguments in Python whose option has another name.
_FLAG_NAMES = {
    "as_": "as",
    "count": "worst",
    "id_": "id",
    "inputs": "input",
    "loss_type": "loss",
    "mapping": "map",
    "max_lengths": "max_length",
    "ref_model": "reference",
    "text": "find",
}
#: Libraries whose warnings only --verbose shows.
_LIBRARIES = ("accelerate", "datasets", "huggingface_hub", "peft", "torch", "transformers")
#: Widest column of names in --help; the text of a longer name starts on the next line.
_NAME_COLUMN = 32
#: Values of switches, as in --bf16 false.
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: temporary files and unfinished folders are removed."""


def run(app: typer.Typer) -> None:
    """Run a command line in this process, which ends with its exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    # Texts from the data may hold what the terminal's encoding lacks, and lone surrogates: escape them.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        app(prog_name=app.info.name)


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def flag(name: str, value: object = None) -> str:
    """Return an argument of a Python function as the option of the command line."""
    return as_flag(_FLAG_NAMES.get(name, name), value)


def choices(literal: Any) -> str:
    """Return the values of a Literal as --help lists them."""
    return "|".join(get_args(literal))


class PlainCommand(TyperCommand):
    """A command with plain help, suggestions for misspelt options and values, and errors that become exit codes."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse the command line."""
        with _errors_as_exit_codes():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Call the function of the command."""
        with _errors_as_exit_codes():
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command's name."""
        words, values = self._normalize(ctx, args)
        try:
            return super().parse_args(ctx, words)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # typer parses with pydantic since 0.27
            value = values.get(getattr(error.param, "name", None))
            if "is not one of" in error.message:
                word, *known = re.findall(r"'([^']*)'", error.message)
                error.message += did_you_mean(word, known)
            elif value is not None and value not in error.message:
                error.message = f"{value}: {error.message[0].lower()}{error.message[1:]}."
            error.message = visible(without_secrets(error.message))
            raise

    def get_usage(self, ctx: Any) -> str:
        """Return the usage line."""
        return re.sub("[{}]", "", super().get_usage(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_page(self, ctx, formatter.width))

    def _normalize(self, ctx: Any, args: list[str]) -> tuple[list[str], dict[str | None, str]]:
        """Return the words as typer takes them, and the last value given for each option.

        `--max_length 512` is `--max-length 512`. A command without arguments also takes `--flag true` and several
        values after one option. Fails, with a suggestion, at an option that the command does not have.
        """
        parameters = self.get_params(ctx)
        options = {name: each for each in parameters for name in (*each.opts, *each.secondary_opts)}
        takes_arguments = any(each.param_type_name == "argument" for each in parameters)
        values: dict[str | None, str] = {}
        words: list[str] = []
        rest = deque(args)
        while rest:
            word = rest.popleft()
            name, equals, value = word.partition("=")
            if word == "--":
                return [*words, word, *rest], values
            if name.startswith("--"):
                name = name.replace("_", "-")
            option = options.get(name)
            if option is None:
                if name.startswith("--"):
                    shown = [name for name, each in options.items() if not getattr(each, "hidden", False)]
                    ctx.fail(f"{visible(name)}: there is no such option.{did_you_mean(name, shown)}")
                words.append(word)
            elif getattr(option, "is_flag", True):
                if not equals and not takes_arguments and rest and rest[0].lower() in _BOOLEANS:
                    value = rest.popleft()
                opposite = option.secondary_opts if name in option.opts else option.opts
                words += [name] if _BOOLEANS.get(value.lower(), True) else opposite[:1]
            elif equals or rest:
                values[option.name] = value if equals else rest.popleft()
                words += [name, values[option.name]]
                while option.multiple and not takes_arguments and rest and not rest[0].startswith("-"):
                    words += [name, rest.popleft()]
            else:
                words.append(name)
        return words, values


class PlainGroup(TyperGroup):
    """A group of commands with plain help and suggestions for misspelt commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names."""
        if args[0] not in self.commands and not ctx.resilient_parsing and not args[0].startswith("-"):
            ctx.fail(f"{visible(args[0])}: there is no such command.{did_you_mean(args[0], self.commands)}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        formatter.write(help_page(self, ctx, formatter.width))


def help_page(command: Any, ctx: Any, width: int) -> str:
    """Return the help of a command or group: usage, description, sections of options, commands, epilog.

    Args:
        command: of typer.
        ctx: its context.
        width: in columns.
    """
    blocks = [command.get_usage(ctx)]
    for paragraph in re.split(r"\n{2,}", command.help or ""):
        text = textwrap.dedent(paragraph) if is_example(paragraph) else _fill(paragraph, width - 2)
        blocks.append(textwrap.indent(text, "  "))
    sections = option_sections(command, ctx)
    sections["Commands"] = [
        (name, each.get_short_help_str(200))
        for name, each in getattr(command, "commands", {}).items()
        if not each.hidden
    ]
    blocks += [f"{title}:\n{_columns(rows, width)}" for title, rows in sections.items() if rows]
    if command.epilog:
        blocks.append(_fill(command.epilog, width))
    return "\n\n".join(blocks) + "\n"


def is_example(paragraph: str) -> bool:
    """Return True if a paragraph of a description is made of commands, which keep their lines."""
    return paragraph.lstrip().startswith(("dpo-data ", "dpo-train "))


def option_sections(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the names and help texts of the arguments and options of a command, by section."""
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for param in command.get_params(ctx):
        default = "Arguments" if param.param_type_name == "argument" else "Options"
        if record := param.get_help_record(ctx):
            sections.setdefault(getattr(param, "rich_help_panel", None) or default, []).append(_tidy(*record))
    sections["Options"] = sections.pop("Options")  # the options of every command come last
    return {title: rows for title, rows in sections.items() if rows}


def _tidy(names: str, text: str) -> tuple[str, str]:
    """Return a row of the help without the marks that typer adds to types and ranges.

    Short names come first. The name that turns a switch off is left out if it is off by default.
    """
    if "default:" not in text:
        names = names.partition(" / --no-")[0]
    words = [word.strip(",") for word in names.split() if not word.startswith("<")]
    if "/" not in words:
        options = sorted((word for word in words if word.startswith("-")), key=lambda option: option.startswith("--"))
        names = " ".join(filter(None, [", ".join(options), *(word for word in words if not word.startswith("-"))]))
    text = re.sub(r"\[default: \((.*)\)", r"[default: \1", text.replace("\\[", "["))
    return names, re.sub(r"; x>=\d+|  \[x>=\d+\]", "", text)


def _columns(rows: list[tuple[str, str]], width: int) -> str:
    """Return a table of names and texts; the text of a long name starts on the line below it."""
    column = min(max(len(name) for name, _ in rows), _NAME_COLUMN) + 4
    lines = []
    for name, text in rows:
        first, *more = _fill(text, width - column).split("\n")
        if len(name) + 4 > column:
            lines.append(f"  {name}")
            name = ""
        lines += [f"  {name}".ljust(column) + first, *(" " * column + line for line in more)]
    return "\n".join(line.rstrip() for line in lines)


def _fill(text: str, width: int) -> str:
    """Return the wrapped text; a default in brackets at its end is not split if it fits on one line."""
    text = " ".join(text.split())
    if (default := re.search(r"\[[^]]*\]$", text)) and len(default[0]) <= width:
        text = text[: default.start()] + default[0].replace(" ", "\0")
    return textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False).replace("\0", " ")


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        typer.echo(f"Error: {error.spelled(flag)}", err=True)
        raise typer.Exit(error.exit_code) from error
    except BrokenPipeError:  # the reader of the output is gone, as in `dpo-data ... | head`
        raise
    except OSError as error:  # of the environment: those about a file of the user are translated where they arise
        typer.echo(f"Error: {_environment(error)}", err=True)
        raise typer.Exit(2) from error
    except MemoryError as error:
        typer.echo("Error: memory ran out.\n  Use a machine with more, or fewer workers.", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as stopped:
        notes = [f"  {note}" for note in getattr(stopped, "__notes__", [])]
        typer.echo("\n".join(["Stopped.", *notes]), err=True)
        raise typer.Exit(143 if isinstance(stopped, Terminated) else 130) from stopped


def _environment(error: OSError) -> str:
    """Return what the system refused, and what to do about it."""
    what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else first_line(error)
    remedies = {
        errno.EMFILE: "Allow more open files: ulimit -n 4096.",
        errno.ENFILE: "The system has too many open files: end other programs.",
        errno.ENOSPC: "Free some space. Temporary files go to the folder that TMPDIR names.",
        errno.EDQUOT: "Free some space. Temporary files go to the folder that TMPDIR names.",
        errno.EROFS: "Name an output on a file system that can be written.",
        errno.ENOENT: "A file was removed meanwhile, or there is no folder for temporary files: see TMPDIR.",
    }
    return "\n  ".join(filter(None, [f"{what}.", remedies.get(error.errno or 0)]))


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        from dpo_data import __version__

        typer.echo(f"{context.info_name} {__version__}")
        raise typer.Exit


def _set_verbosity(verbose: bool) -> None:
    """Hide the warnings of the libraries, in this process and in those that it starts, unless they are wanted."""
    import os

    if verbose:
        return
    for name in _LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{name}\b")
    for name in ("TRANSFORMERS_VERBOSITY", "DATASETS_VERBOSITY", "HF_HUB_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no summary.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", callback=_set_verbosity, help="Show the warnings of libraries.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON to standard output.")]


@contextmanager
def progress(task: str, *, quiet: bool = False, every_s: float = 10.0) -> Iterator[Progress]:
    """Show progress on standard error: a live bar on a terminal, elsewhere a line now and then.

    Args:
        task: one word, as "Reading".
        quiet: show nothing.
        every_s: seconds between two lines; six times as long after the first minute.
    """
    if quiet:
        yield lambda fraction, rows: None
    elif sys.stderr.isatty():
        with _progress_bar(task) as show:
            yield show
    else:
        yield _ProgressLines(task, every_s)


class _ProgressLines:
    """Progress as a line now and then, for a log file."""

    def __init__(self, task: str, every_s: float) -> None:
        self._task = task
        self._every_s = every_s
        self._started = self._shown = time.monotonic()

    def __call__(self, fraction: float | None, rows: int) -> None:
        now = time.monotonic()
        elapsed = now - self._started
        if now - self._shown < self._every_s * (1 if elapsed < 60 else 6):
            return
        self._shown = now
        done = "" if fraction is None else f"{fraction:4.0%}  "
        typer.echo(f"{self._task}  {done}{rows:,} rows  {elapsed:.0f} s", err=True)


@contextmanager
def _progress_bar(task: str) -> Iterator[Progress]:
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        id_ = bar.add_task(task, total=None, rows=0)
        yield lambda fraction, rows: bar.update(
            id_, total=None if fraction is None else 1.0, completed=fraction or 0.0, rows=rows
        )


def print_json(content: Any) -> None:
    """Print a result as JSON without control characters, in ASCII where standard output is not UTF-8."""
    import json

    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    typer.echo(escaped_json(json.dumps(content, indent=2, ensure_ascii=ascii_only)))
