"""Readers of raw fields; every error names the path of the field."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from dpo_data.errors import RowError
from dpo_data.options import SplitName
from dpo_data.records import without_nulls

Row = Mapping[str, Any]
#: Field of the pair -> column of the raw row, with dots for nested columns.
FieldMap = Mapping[str, str]


def missing(row: Row, field: str, path: str = "") -> RowError:
    """Return the error for a field that is null or missing."""
    state = "is null" if field in row else f"is missing; the row has {', '.join(row) or 'no fields'}"
    return RowError("missing_field", path + field, f"{path}{field} {state}.")


def required(row: Row, field: str, path: str = "") -> Any:
    """Return a required field.

    Raises: RowError: missing_field.
    """
    value = row.get(field)
    if value is None:
        raise missing(row, field, path)
    return value


def required_text(row: Row, field: str, path: str = "") -> str:
    """Return a required string field.

    Raises: RowError: missing_field or wrong_type.
    """
    value = row.get(field)
    if value is None:
        raise missing(row, field, path)
    if not isinstance(value, str):
        raise RowError("wrong_type", path + field, f"{path}{field} is {type(value).__name__}, not a string.")
    return value


def optional_text(row: Row, field: str, path: str = "") -> str:
    """Return an optional string field; empty if it is null or missing.

    Raises: RowError: wrong_type.
    """
    return required_text(row, field, path) if row.get(field) is not None else ""


def required_list(row: Row, field: str, path: str = "") -> list[Any]:
    """Return a required list field.

    Raises: RowError: missing_field or wrong_type.
    """
    value = required(row, field, path)
    if not isinstance(value, list):
        raise RowError("wrong_type", path + field, f"{path}{field} is {type(value).__name__}, not a list.")
    return value


def required_object(row: Row, field: str, path: str = "") -> Row:
    """Return a required object field.

    Raises: RowError: missing_field or wrong_type.
    """
    return as_object(required(row, field, path), path + field)


def as_object(value: Any, path: str) -> Row:
    """Return a value that must be an object.

    Raises: RowError: wrong_type.
    """
    if not isinstance(value, Mapping):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not an object.")
    return value


def number(value: Any, path: str) -> float | None:
    """Return a finite number, or None if the value is null or blank.

    A string that holds a number counts as one, because every cell of a CSV file is a string.

    Raises: RowError: wrong_type.
    """
    if isinstance(value, str):
        try:
            value = float(value) if value.strip() else None
        except ValueError as error:
            raise RowError("wrong_type", path, f"{path} is {value!r}, not a number.") from error
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a number.")
    if value is None:
        return None
    try:
        result = float(value)
    except OverflowError as error:
        raise RowError("wrong_type", path, f"{path} is too large for a number.") from error
    if not math.isfinite(result):
        raise RowError("wrong_type", path, f"{path} is {result}, not a finite number.")
    return result


def optional_number(row: Row, field: str, path: str = "") -> float | None:
    """Return an optional number field; None if it is null or missing.

    Raises: RowError: wrong_type.
    """
    return number(row.get(field), path + field)


def required_number(row: Row, field: str, path: str = "") -> float:
    """Return a required number field.

    Raises: RowError: missing_field or wrong_type.
    """
    value = optional_number(row, field, path)
    if value is None:
        raise missing(row, field, path)
    return value


def required_choice(row: Row, field: str, choices: Collection[Any], path: str = "") -> Any:
    """Return a required field that must be one of `choices`.

    A string or a float that holds one of them counts as it, because tables write numbers so.

    Raises: RowError: missing_field or wrong_type.
    """
    value = required(row, field, path)
    if isinstance(value, str | float):
        text = str(value).strip().removesuffix(".0")
        value = next((choice for choice in choices if text == str(choice)), value)
    if isinstance(value, list | Mapping) or value not in choices:
        allowed = ", ".join(map(str, choices))
        raise RowError("wrong_type", path + field, f"{path}{field} is {value!r}, not one of {allowed}.")
    return value


def as_row_error(error: ValidationError, prefix: str = "") -> RowError:
    """Return the first error that pydantic reports for a row as a RowError."""
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, filter(lambda part: part != "", (prefix, *first["loc"]))))
    if first["type"] == "missing":
        return RowError("missing_field", path, f"{path} is missing.")
    return RowError("wrong_type", path, f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}.")


def lookup(row: Row, path: str) -> Any:
    """Return the value at a dotted path, or None; a column whose own name has dots takes precedence.

    In a list, a number selects one item, and a name selects that field of every item.

    >>> lookup({"answers": [{"text": "Lima"}, {"text": "Quito"}]}, "answers.0.text")
    'Lima'
    >>> lookup({"answers": [{"text": "Lima"}, {"text": "Quito"}]}, "answers.text")
    ['Lima', 'Quito']
    """
    if path in row:
        return row[path]
    value: Any = row
    keys = path.split(".")
    for depth, key in enumerate(keys):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal():
            value = value[int(key)] if int(key) < len(value) else None
        elif isinstance(value, list):
            rest = ".".join(keys[depth:])
            items = [lookup(item, rest) if isinstance(item, Mapping) else None for item in value]
            return items if any(item is not None for item in items) else None
        else:
            return None
    return value


#: Values of a column `split`, and the split that each means.
SPLIT_VALUES: dict[str, SplitName] = {
    "train": "train",
    "val": "test",
    "valid": "test",
    "valid1": "test",
    "valid2": "test",
    "validation": "test",
    "test": "test",
}


def split_column(row: Row) -> SplitName | None:
    """Return the split that the column `split` names; None if it is null or missing.

    Raises: RowError: wrong_type.
    """
    if row.get("split") is None:
        return None
    split: str = required_choice(row, "split", tuple(SPLIT_VALUES))
    return SPLIT_VALUES[split]


def has_column(row: Row, path: str) -> bool:
    """Return True if a row has a column at a dotted path, or a null on the way to it.

    >>> has_column({"info": {"split": None}}, "info.split"), has_column({"info": {}}, "info.split")
    (True, False)
    """
    if path in row:
        return True
    value: Any = row
    for key in path.split("."):
        if isinstance(value, list) and not key.isdecimal():
            value = next((item for item in value if isinstance(item, Mapping)), {})
        if isinstance(value, list):
            value = next(iter(value), None)
        elif isinstance(value, Mapping):
            if key not in value:
                return False
            value = value[key]
        else:
            return value is None
    return True


def objects_with(value: Any, *fields: str) -> bool:
    """Return True if a value is a list of objects that all have these fields."""
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and all(field in item for field in fields) for item in value
    )


def json_objects(value: Any, path: str) -> str | None:
    """Return a list of objects, such as tools or tool calls, as JSON without null keys; None if it is empty.

    JSON is accepted too. A table adds the keys of other rows, as nulls: without them, rows have the same ids in
    JSON Lines and in Parquet.

    Raises: RowError: wrong_type.
    """
    if value is None or value == [] or value == "":
        return None
    try:
        objects = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise RowError("wrong_type", path, f"{path} is not JSON.") from error
    if not isinstance(objects, list) or not all(isinstance(item, Mapping) for item in objects):
        raise RowError("wrong_type", path, f"{path} is not a list of objects.")
    return json.dumps(without_nulls(objects), ensure_ascii=False, separators=(",", ":")) if objects else None
