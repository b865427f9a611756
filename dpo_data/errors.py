"""Every error a user can cause, each with a message that says what happened, where, and what to do.

DataError                  shown without a traceback; the exit code says which kind it was
├── UsageError             options that contradict each other or the data (exit 2)
├── InputError             an input that cannot be read at all (exit 2)
├── PreparedError          a prepared folder or token cache that must not be used (exit 2)
├── RowError               one raw row that cannot become a pair: goes to quarantine (exit 1)
└── Interrupted            stopped by Ctrl-C; nothing half-written is left (exit 130)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

#: Why a raw row cannot be a pair at all -> what to do about it. Stable: quarantine files and scripts rely on the codes.
#: The checks of `dpo_data.checks` add codes of their own.
ROW_ERRORS = {
    "unreadable_row": "Repair or delete the row in the raw file.",
    "invalid_unicode": "Save the file again as UTF-8; a lone surrogate escape (\\ud800) is not a character.",
    "missing_field": "Name the column that holds it with --map, or leave the row out.",
    "wrong_type": "prompt, chosen and rejected are strings, or lists of {role, content} messages.",
    "not_a_dialogue": 'A transcript starts with "\\n\\nHuman:" and has an "\\n\\nAssistant:" turn.',
    "no_response": "A pair needs an Assistant turn at the end of both sides.",
    "prompts_diverge": "Both responses must answer the same prompt; such a row compares two different dialogues.",
    "not_recoverable": "Convert it with --form text, which keeps every byte.",
    "contradicting_scores": "Find out which of the two is right; leave the row out, or mend it in the raw file.",
    "no_text_form": "Convert it with --form conversational, which keeps roles and tools.",
    "no_parent": "Rows of one group must stand together in one file: sort it by that key, and read it whole.",
}


class DataError(Exception):
    """What happened, where, and what to do: `str(error)` is the whole text for the user."""

    exit_code = 2


class UsageError(DataError):
    """Options that contradict each other, or the data they are given for."""


class InputError(DataError):
    """An input that cannot be read at all: missing, damaged, without permission, or of another format."""


class PreparedError(DataError):
    """A prepared folder or token cache that must not be used: unfinished, rejected, damaged or of another tokenizer."""


class RowError(DataError):
    """One raw row that cannot become a pair.

    Args:
        code: a key of `ROW_ERRORS`, or the code of a check.
        field: the column or path the message is about; empty when it is the whole row.
        message: one sentence, without the place: `at_row` knows that.
        hint: what to do; that of `ROW_ERRORS` when left out.
    """

    exit_code = 1

    def __init__(self, code: str, field: str, message: str, hint: str | None = None) -> None:
        super().__init__(code, field, message, hint)
        self.code = code
        self.field = field
        self.message = message
        self.hint = ROW_ERRORS[code] if hint is None else hint

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]\n  {self.hint}"


class Interrupted(DataError):
    """Stopped by the user."""

    exit_code = 130


def require_choice(option: str, value: str, choices: Any) -> None:
    """Refuse a value that is none of a Literal's.

    Raises: UsageError: with the choices.
    """
    if value not in get_args(choices):
        raise UsageError(f"{option} {value}: choose from {', '.join(get_args(choices))}.")


@contextmanager
def reading(file: object) -> Iterator[None]:
    """Turn the errors of operating system, Arrow and codecs into an `InputError` that names the file."""
    import pyarrow

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{file}: there is no such file.") from error
    except PermissionError as error:
        raise InputError(f"{file}: no permission to read it.") from error
    except (OSError, EOFError, UnicodeDecodeError, pyarrow.ArrowException) as error:
        raise InputError(f"{file}: cannot be read: {_first_line(error)}.") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into a `UsageError` that names the path and says what is left."""
    try:
        yield
    except PermissionError as error:
        raise UsageError(f"{path}: no permission to write there.\n  Write elsewhere.") from error
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise UsageError(
            f"{path}: writing failed: {reason}.\n"
            "  Nothing half-written is left that reads as complete. Free some space, or write elsewhere."
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
