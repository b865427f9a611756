"""JSON Lines: one record a line."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from dpo_data.errors import RowError
from dpo_data.readers import rows
from dpo_data.readers.rows import Format, RawRow


def read_lines(stream: Any) -> Iterator[tuple[int, bytes]]:
    """Yield (first line, bytes) of whole lines, in chunks of about `CHUNK_BYTES`."""
    line, rest = 1, b""
    while block := stream.read(rows.CHUNK_BYTES):
        if line == 1 and not rest:
            _require_utf8(block)
            block = block.removeprefix(b"\xef\xbb\xbf")
        whole, newline, tail = block.rpartition(b"\n")
        if not newline:
            rest += block
            continue
        yield line, rest + whole
        line += (rest + whole).count(b"\n") + 1
        rest = tail
    if rest:
        yield line, rest


def _require_utf8(start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise OSError("it is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8")


def parse_lines(payload: bytes, first_line: int) -> Iterator[RawRow]:
    """Yield one row for each line that is not blank."""
    for line, text in enumerate(payload.split(b"\n"), first_line):
        if text and not text.isspace():
            try:
                # Twice as fast as the standard library's, and as strict; what it refuses is parsed again for a reason.
                value = from_json(text)
            except ValueError:
                yield RawRow(line, _parse_json(text.decode("utf-8", "surrogateescape")), text)
            else:
                yield RawRow(line, as_row(value), text)


def _parse_json(text: str) -> dict[str, Any] | RowError:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RowError("unreadable_row", "", f"the line is not JSON: {error.msg} (column {error.colno}).")
    except (ValueError, RecursionError) as error:
        return RowError("unreadable_row", "", f"the line is not JSON that can be read: {error}.")
    return as_row(value)


def as_row(value: Any) -> dict[str, Any] | RowError:
    """Return the record, or a `RowError` if it is not an object with named fields."""
    if isinstance(value, dict):
        return value
    return RowError("unreadable_row", "", f"the record is {type(value).__name__}, not an object with named fields.")


JSONL = Format("jsonl", (".jsonl", ".ndjson"), read_lines, parse_lines)
