"""Metadata columns that are kept with the pairs: values of one type, or null."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from dpo_data.errors import RowError
from dpo_data.prepared.columns import booleans_column, scores_column, text_column
from dpo_data.prepared.manifest import KeptColumn
from dpo_data.sources.fields import Row, lookup, number

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

#: Text, number or truth value; None for a null.
Value = str | float | bool | None


def kept_values(row: Row, kept: Mapping[str, KeptColumn]) -> tuple[dict[str, Value], list[str]]:
    """Return the values of the kept columns of a row, and the names of those that do not fit, which are null."""
    values: dict[str, Value] = {}
    misfits = []
    for name, column in kept.items():
        found = lookup(row, column.column)
        values[name] = None if found is None else _CONVERSIONS[column.type](found)
        if values[name] is None and found is not None and not (isinstance(found, str) and not found.strip()):
            misfits.append(name)
    return values, misfits


def kept_column(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Return the values of a kept column as an Arrow column."""
    if type_ == pa.float64():
        return scores_column(values)
    if type_ == pa.bool_():
        return booleans_column(values)
    return text_column([None if value is None else value.encode() for value in values])


def _text(value: Any) -> str | None:
    """Return a string as it is, and any other value as JSON; None for one that cannot be stored."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _number(value: Any) -> float | None:
    try:
        return number(value, "")
    except RowError:
        return None


def _boolean(value: Any) -> bool | None:
    if isinstance(value, str):
        return _BOOLEANS.get(value.strip().lower())
    is_truth_value = isinstance(value, bool | int | float) and not math.isnan(value) and value in (0, 1)
    return bool(value) if is_truth_value else None


_CONVERSIONS = {"text": _text, "number": _number, "bool": _boolean}
