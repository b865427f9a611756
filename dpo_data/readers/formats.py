"""Registry of raw file formats: how each is read, parsed, and asked for its columns."""

from collections.abc import Callable, Iterator
from typing import Any

from dpo_data.readers.arrow import parse_batch, read_arrow, read_parquet
from dpo_data.readers.json import read_json
from dpo_data.readers.jsonl import parse_lines, read_lines
from dpo_data.readers.rows import RawRow, parse_records
from dpo_data.readers.tables import read_csv, read_tsv

READERS: dict[str, Callable[[Any], Iterator[tuple[int, Any]]]] = {
    "jsonl": read_lines,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "arrow": read_arrow,
}


PARSERS: dict[str, Callable[[Any, int], Iterator[RawRow]]] = {
    "jsonl": parse_lines,
    "json": parse_records,
    "csv": parse_records,
    "tsv": parse_records,
    "parquet": parse_batch,
    "arrow": parse_batch,
}


COLUMNS: dict[str, Callable[[Any], list[str] | None]] = {
    "csv": lambda payload: next((list(row.value) for row in payload if isinstance(row.value, dict)), None),
    "parquet": lambda payload: payload.schema.names,
    "arrow": lambda payload: payload.schema.names,
}


COLUMNS["tsv"] = COLUMNS["csv"]
