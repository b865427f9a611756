"""Errors that a user can cause: each message says what happened, where, and what to do.

DataError                  shown without a traceback; `exit_code` is the exit status of the command line
├── UsageError             arguments that contradict each other or the data (exit 2); a ValueError too
├── InputError             an input that cannot be read at all (exit 2)
├── PreparedError          a prepared folder or token cache that must not be used (exit 2)
├── TooManyInvalid         more pairs that cannot be tokenized than max_invalid allows (exit 1)
├── LossError              pairs that an export format cannot hold as they are (exit 1)
└── RowError               one raw row that cannot become a pair: it is quarantined (exit 1)

A message names arguments with `argument()`: Python shows them as keywords, the command line as flags.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from dpo_data.escapes import visible, without_secrets

#: Code of a raw row that cannot become a pair -> what to do about it. Stable: quarantine files and scripts rely on the
#: codes. The checks of `dpo_data.checks` add codes of their own.
ROW_ERRORS = {
    "unreadable_row": "Repair or delete the row in the raw file.",
    "invalid_unicode": "Name the encoding of the file with --encoding (often cp1252), or save it again as UTF-8; a "
    "lone surrogate escape (\\ud800) is not a character.",
    "missing_field": "Complete the row in the raw file, or remove it.",
    "wrong_type": "Correct the value in the raw file, or remove the row.",
    "unknown_label": "Say what the label means: --label-map VALUE=a|b|tie|skip.",
    "unknown_role": "Rename the role in the raw file to system, user, assistant, tool or a usual name, such as human.",
    "unsupported_field": "The first 1,000 rows decide what is kept: move such a row there, or use the source pairs.",
    "media_content": "Remove the row, or its images, audio and video: only text can be trained on.",
    "not_a_dialogue": 'A transcript starts with "\\n\\nHuman:" and has an "\\n\\nAssistant:" turn.',
    "no_response": "Both sides of a pair must end with an Assistant turn.",
    "prompts_diverge": "Both responses must answer the same prompt; such a row compares two different dialogues.",
    "not_recoverable": "Convert it with --form text, which keeps every byte.",
    "contradicting_scores": "Check which one is correct, then fix or remove the row in the raw file.",
    "no_text_form": "Convert it with --form conversational, which keeps roles and tools.",
    "no_parent": "Rows of one group must be adjacent in one file: sort the file by the group key, and read all of it.",
}

_ARGUMENT = re.compile(r"\{argument:(\w+)(?:=([^{}]*))?\}")
#: Spelling of an argument: its name in Python and, if it has one, its value.
Spelling = Callable[[str, object], str]


class DataError(Exception):
    """What happened, where, and what to do. `str(error)` is the whole text for a Python caller."""

    exit_code = 2

    @property
    def text(self) -> str:
        """The whole text, with arguments as `argument()` marks them."""
        return super().__str__()

    def spelled(self, spelling: Spelling) -> str:
        """Return the whole text with the arguments in a reader's spelling, safe to show."""
        return visible(without_secrets(_ARGUMENT.sub(lambda found: spelling(found[1], found[2]), self.text)))

    def __str__(self) -> str:
        return self.spelled(as_keyword)


class UsageError(DataError, ValueError):
    """Arguments that contradict each other, or the data they are given for.

    Args:
        message: what is wrong and what to do.
        option: the argument that the message is about, by its name in Python.
        value: the value it was given.
    """

    def __init__(self, message: str, option: str | None = None, value: object = None) -> None:
        super().__init__(message, option, value)
        self.message = message
        self.option = option
        self.value = value

    @property
    def text(self) -> str:
        """The message alone: the option before it is added by `spelled`."""
        return self.message

    def spelled(self, spelling: Spelling) -> str:
        """Return the whole text with the arguments in a reader's spelling."""
        text = super().spelled(spelling)
        if self.option is None:
            return text
        return f"{visible(without_secrets(spelling(self.option, self.value)))}: {text}"


class InputError(DataError):
    """An input that cannot be read at all: missing, damaged, without permission, or of another format."""


class PreparedError(DataError):
    """A prepared folder or token cache that must not be used: unfinished, rejected, damaged or of another tokenizer."""


class TooManyInvalid(DataError):
    """More pairs that cannot be tokenized than max_invalid allows."""

    exit_code = 1


class LossError(DataError):
    """Pairs that an export format cannot hold as they are, or that break a rule of its reader."""

    exit_code = 1


class RowError(DataError):
    """One raw row that cannot become a pair.

    Args:
        code: a key of `ROW_ERRORS`, or the code of a check.
        field: the column or path the message is about; empty for the whole row.
        message: one sentence without the position, which `at_row` adds.
        hint: what to do; default: the hint of `ROW_ERRORS`.
    """

    exit_code = 1

    def __init__(self, code: str, field: str, message: str, hint: str | None = None) -> None:
        super().__init__(code, field, message, hint)
        self.code = code
        self.field = field
        self.message = message
        self.hint = ROW_ERRORS[code] if hint is None else hint

    @property
    def text(self) -> str:
        """Message, code and hint."""
        return f"{self.message} [{self.code}]\n  {self.hint}"


def argument(name: str, value: object = None) -> str:
    r"""Return a mention of an argument for the text of an error.

    Args:
        name: of the argument in Python.
        value: a value to show with it, as in "pass overwrite=True".

    >>> error = UsageError(f"folder: exists.\n  Replace it: {argument('overwrite', True)}.")
    >>> print(error)
    folder: exists.
      Replace it: overwrite=True.
    >>> print(error.spelled(as_flag))
    folder: exists.
      Replace it: --overwrite.
    """
    return f"{{argument:{name}}}" if value is None else f"{{argument:{name}={value}}}"


def as_keyword(name: str, value: object = None) -> str:
    """Return an argument as it is written in Python.

    >>> as_keyword("max_length"), as_keyword("limit", 0)
    ('max_length=', 'limit=0')
    """
    return f"{name}={'' if value is None else value}"


def as_flag(name: str, value: object = None) -> str:
    """Return an argument as it is written on a command line.

    >>> as_flag("max_length"), as_flag("limit", 0), as_flag("overwrite", True), as_flag("keep_system", False)
    ('--max-length', '--limit 0', '--overwrite', '--no-keep-system')
    """
    if str(value) == "False":
        return f"--no-{name.replace('_', '-')}"
    flag = f"--{name.replace('_', '-')}"
    return flag if value is None or str(value) == "True" else f"{flag} {value}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    r"""Return a line that suggests the choice nearest to a misspelt word, or nothing if none is near.

    The dashes that options begin with do not count.

    >>> did_you_mean("hhrlhf", ["hh-rlhf", "shp"])
    '\n  Did you mean hh-rlhf?'
    >>> did_you_mean("nope", ["hh-rlhf", "shp"])
    ''
    """
    from difflib import get_close_matches

    by_name = {choice.lstrip("-"): choice for choice in choices}
    word = word.lstrip("-").lower()
    near = [name for name in by_name if word and name.startswith(word)] or get_close_matches(word, by_name, n=1)
    return f"\n  Did you mean {by_name[near[0]]}?" if near else ""


def require_choice(option: str, value: str, choices: Any) -> None:
    """Raise UsageError, listing the choices, if a value is not in a Literal.

    Args:
        option: name of the argument in Python.
        value: its value.
        choices: the Literal.
    """
    known = get_args(choices)
    if value not in known:
        suggestion = did_you_mean(value, known) if isinstance(value, str) else ""
        raise UsageError(f"choose from {', '.join(known)}.{suggestion}", option, value)


#: Name to import -> name to install, where they differ.
_DISTRIBUTIONS = {"spellchecker": "pyspellchecker"}


def require_packages(feature: str, *packages: str) -> None:
    """Raise UsageError, with the command that installs them, if packages are missing.

    Args:
        feature: what needs them, for the message.
        packages: names to import.
    """
    from importlib.metadata import PackageNotFoundError, requires
    from importlib.util import find_spec

    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    try:
        declared = [requirement.partition(";")[0].strip() for requirement in requires("dpo-data") or []]
    except PackageNotFoundError:
        declared = []
    # Requirements rather than an extra of dpo-data: they are installed the same way from a checkout and from an index.
    names = (_DISTRIBUTIONS.get(package, package) for package in missing)
    wanted = (next((text for text in declared if re.match(rf"{name}\b", text)), name) for name in names)
    command = " ".join(["pip install", *(f'"{requirement}"' for requirement in wanted)])
    raise UsageError(f"{feature} needs {', '.join(missing)}.\n  Install: {command}")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's text without its final period, or its type's name if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")


@contextmanager
def reading(file: object) -> Iterator[None]:
    """Raise an InputError that names the file in place of errors of the operating system, Arrow and codecs."""
    import pyarrow

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file.") from error
    except PermissionError as error:
        raise InputError(f"{file}: no permission to read it.") from error
    except UnicodeDecodeError as error:
        reason = f"it is not {error.encoding.upper()}: {error.reason} at byte {error.start}"
        raise InputError(f"{file}: cannot be read: {reason}.") from error
    except (OSError, EOFError, pyarrow.ArrowException) as error:
        raise InputError(f"{file}: cannot be read: {first_line(error)}.") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a UsageError that names the path in place of the operating system's refusals to write."""
    try:
        yield
    except PermissionError as error:
        raise UsageError(f"{path}: no permission to write there.\n  Write to another folder.") from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UsageError(
            f"{path}: writing failed: {reason}.\n"
            "  No incomplete output was left behind. Free some space, or write to another folder."
        ) from error


@contextmanager
def loading(name: str | Path, what: str) -> Iterator[str]:
    """Raise an InputError in place of the many errors with which a model or tokenizer cannot be loaded.

    Args:
        name: a folder, or a name on the Hub.
        what: that is loaded, for the message.

    Yields: the name for `from_pretrained`. What looks like a path but does not exist is refused at once: a lookup on
        the Hub would retry for most of a minute.
    """
    path = Path(name).expanduser()
    if not path.exists() and _looks_like_path(str(name)):
        siblings = [str(other) for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise InputError(
            f"{name}: there is no such folder.{did_you_mean(str(path), siblings)}\n"
            f"  Name a folder with the {what}, or a model on the Hub."
        )
    try:
        yield str(path) if path.exists() else str(name)
    except Exception as error:  # transformers raises many kinds, some of them for a file that is not there
        raise InputError(
            f"{name}: the {what} cannot be loaded: {first_line(error)}.\n"
            f"  Name a folder with the {what}, or a model on the Hub (which needs the network)."
        ) from error


def _looks_like_path(name: str) -> bool:
    """Return True if a name cannot be one on the Hub, which is NAME or OWNER/NAME, or its owner is a local folder.

    >>> [_looks_like_path(name) for name in ("gpt2", "openai/gpt2", "./gpt2", "~/gpt2", "a/b/c", "models/")]
    [False, False, True, True, True, True]
    """
    owner, _, rest = name.rpartition("/")
    return name.startswith((".", "~", "/")) or "/" in owner or "\\" in name or not rest or Path(owner or "?").is_dir()
