"""Registry of raw file formats: how each is read, parsed, and asked for its columns."""

from collections.abc import Callable, Iterator
from typing import Any

from dpo_data.readers.arrow import _parse_batch, _read_arrow, _read_parquet
from dpo_data.readers.json import _read_json
from dpo_data.readers.jsonl import _parse_lines, _read_lines
from dpo_data.readers.rows import RawRow, _parse_records
from dpo_data.readers.tables import _read_csv, _read_tsv

READERS: dict[str, Callable[[Any], Iterator[tuple[int, Any]]]] = {
    "jsonl": _read_lines,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
}


PARSERS: dict[str, Callable[[Any, int], Iterator[RawRow]]] = {
    "jsonl": _parse_lines,
    "json": _parse_records,
    "csv": _parse_records,
    "tsv": _parse_records,
    "parquet": _parse_batch,
    "arrow": _parse_batch,
}


COLUMNS: dict[str, Callable[[Any], list[str] | None]] = {
    "csv": lambda payload: next((list(row.value) for row in payload if isinstance(row.value, dict)), None),
    "parquet": lambda payload: payload.schema.names,
    "arrow": lambda payload: payload.schema.names,
}


COLUMNS["tsv"] = COLUMNS["csv"]
