"""Readers of raw fields, which name the path in every error."""

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from dpo_data.errors import RowError
from dpo_data.records import Message

Row = Mapping[str, Any]


#: Field of the pair -> column of the raw row, with dots for nested columns.
FieldMap = Mapping[str, str]


def missing(row: Row, field: str, path: str = "") -> RowError:
    """The error for a field that is null or not there."""
    state = "is null" if field in row else f"is missing; the row has {', '.join(row) or 'no fields'}"
    return RowError("missing_field", path + field, f"{path}{field} {state}.")


def required(row: Row, field: str, path: str = "") -> Any:
    """A field that must be there."""
    value = row.get(field)
    if value is None:
        raise missing(row, field, path)
    return value


def required_text(row: Row, field: str, path: str = "") -> str:
    """A field that must be there as a string."""
    value = row.get(field)
    if value is None:
        raise missing(row, field, path)
    if not isinstance(value, str):
        raise RowError("wrong_type", path + field, f"{path}{field} is {type(value).__name__}, not a string.")
    return value


def optional_text(row: Row, field: str, path: str = "") -> str:
    """A field that may be null or left out, as a string; then empty."""
    return required_text(row, field, path) if row.get(field) is not None else ""


def required_list(row: Row, field: str, path: str = "") -> list[Any]:
    """A field that must be there as a list."""
    value = required(row, field, path)
    if not isinstance(value, list):
        raise RowError("wrong_type", path + field, f"{path}{field} is {type(value).__name__}, not a list.")
    return value


def required_object(row: Row, field: str, path: str = "") -> Row:
    """A field that must be there as an object with fields of its own."""
    return as_object(required(row, field, path), path + field)


def as_object(value: Any, path: str) -> Row:
    """A value that must be an object with fields."""
    if not isinstance(value, Mapping):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not an object.")
    return value


def number(value: Any, path: str) -> float | None:
    """A finite number, or None; a string that says one counts, since every cell of a CSV file is a string."""
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
        found = float(value)
    except OverflowError as error:
        raise RowError("wrong_type", path, f"{path} is too large for a number.") from error
    if not math.isfinite(found):
        raise RowError("wrong_type", path, f"{path} is {found}, not a finite number.")
    return found


def optional_number(row: Row, field: str, path: str = "") -> float | None:
    """A field that may be null or left out, as a finite number."""
    return number(row.get(field), path + field)


def required_number(row: Row, field: str, path: str = "") -> float:
    """A field that must be there as a finite number."""
    value = optional_number(row, field, path)
    if value is None:
        raise missing(row, field, path)
    return value


def required_choice(row: Row, field: str, choices: Collection[Any], path: str = "") -> Any:
    """A field that must have one of some values."""
    value = required(row, field, path)
    if isinstance(value, list | Mapping) or value not in choices:
        wanted = ", ".join(map(str, choices))
        raise RowError("wrong_type", path + field, f"{path}{field} is {value!r}, none of {wanted}.")
    return value


def as_row_error(error: ValidationError, prefix: str = "") -> RowError:
    """The first thing that pydantic found in a row, as a row error that names the path."""
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, filter(lambda part: part != "", (prefix, *first["loc"]))))
    if first["type"] == "missing":
        return RowError("missing_field", path, f"{path} is missing.")
    return RowError("wrong_type", path, f"{path}: {first['msg'][0].lower()}{first['msg'][1:]}.")


def messages(value: Any, path: str) -> list[Message]:
    """A list of {role, content} as messages; null fields, which a table adds, do not count; calls of tools are kept."""
    if not isinstance(value, list):
        raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a list of messages.")
    return [_message(message, f"{path}.{place}") for place, message in enumerate(value)]


def _message(value: Any, path: str) -> Message:
    fields = as_object(value, path)
    path += "."
    role = required_text(fields, "role", path)
    if not role:
        raise RowError("wrong_type", f"{path}role", f"{path}role is empty.")
    tool_calls = json_objects(fields.get("tool_calls"), f"{path}tool_calls")
    # A message that only calls tools has no content in the OpenAI form.
    content = (optional_text if tool_calls else required_text)(fields, "content", path)
    if tool_calls is None and fields.get("tool_call_id") is None and fields.get("name") is None:
        return Message(role=role, content=content)
    return Message(
        role=role,
        content=content,
        tool_calls=tool_calls,
        tool_call_id=optional_text(fields, "tool_call_id", path) or None,
        name=optional_text(fields, "name", path) or None,
    )


def lookup(row: Row, path: str) -> Any:
    """The value at a dotted path, or None; a column whose name has dots itself goes first.

    A number takes one item of a list, a name the field of each of its items.

    >>> lookup({"answers": [{"text": "Lima"}, {"text": "Quito"}]}, "answers.0.text")
    'Lima'
    >>> lookup({"answers": [{"text": "Lima"}, {"text": "Quito"}]}, "answers.text")
    ['Lima', 'Quito']
    """
    if path in row:
        return row[path]
    value: Any = row
    keys = path.split(".")
    for place, key in enumerate(keys):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal():
            value = value[int(key)] if int(key) < len(value) else None
        elif isinstance(value, list):
            rest = ".".join(keys[place:])
            found = [lookup(item, rest) if isinstance(item, Mapping) else None for item in value]
            return found if any(item is not None for item in found) else None
        else:
            return None
    return value


def objects_with(value: Any, *fields: str) -> bool:
    """Whether a value is a list of objects that have some fields."""
    return isinstance(value, list) and all(
        isinstance(item, Mapping) and all(field in item for field in fields) for item in value
    )


def json_objects(value: Any, path: str) -> str | None:
    """A list of objects, or JSON of one, as JSON: tools, and calls of them; None where there are none.

    Raises: RowError: wrong_type.
    """
    if value is None or value == [] or value == "":
        return None
    try:
        objects = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise RowError("wrong_type", path, f"{path} is no JSON.") from error
    if not isinstance(objects, list) or not all(isinstance(item, Mapping) for item in objects):
        raise RowError("wrong_type", path, f"{path} is no list of objects.")
    return json.dumps(objects, ensure_ascii=False, separators=(",", ":")) if objects else None
