"""What a source is, and what adapters share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from dpo_data.errors import RowError
from dpo_data.options import Form
from dpo_data.records import PreferencePair

#: Field of the pair -> column of the raw row, with dots for nested columns.
FieldMap = Mapping[str, str]


@dataclass(frozen=True)
class Source:
    """A raw data set, and how one of its rows becomes a pair.

    Attributes:
        name: on the command line.
        licence: of the data; "unknown" where only its owner knows.
        homepage: where the data comes from; empty for one's own files.
        direction: the rule that says which response is preferred.
        columns: the columns that a table must have, with those that the user's mapping names.
        has_scores: whether its pairs may carry scores.
        hub_files: fsspec URLs of its files on the Hugging Face hub.
        sample: files of the embedded sample, inside the package.
        adapt: raw row, form and mapping to a pair; pure; raises RowError for a row that is none.
        refuse: why a file whose first row this is can never become pairs of that form, or None.
        takes_mapping: whether --map means something to it.
    """

    name: str
    licence: str
    homepage: str
    direction: str
    columns: Callable[[FieldMap], tuple[str, ...]]
    adapt: Callable[[Mapping[str, Any], Form, FieldMap], PreferencePair]
    has_scores: bool = False
    hub_files: tuple[str, ...] = ()
    sample: tuple[str, ...] = ()
    refuse: Callable[[Mapping[str, Any], Form, FieldMap], str | None] = lambda row, form, mapping: None
    takes_mapping: bool = False


def required_text(row: Mapping[str, Any], field: str) -> str:
    """A field that must be there as a string.

    Raises: RowError: missing_field or wrong_type.
    """
    value = row.get(field)
    if value is None:
        state = "is null" if field in row else f"is missing; the row has {', '.join(row) or 'no fields'}"
        raise RowError("missing_field", field, f"{field} {state}.")
    if not isinstance(value, str):
        raise RowError("wrong_type", field, f"{field} is {type(value).__name__}, not a string.")
    return value


def as_row_error(error: ValidationError) -> RowError:
    """The first thing that pydantic found in a row, as a row error that names the path."""
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return RowError("missing_field", path, f"{path} is missing.")
    return RowError("wrong_type", path, f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}.")
