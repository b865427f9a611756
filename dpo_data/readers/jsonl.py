"""JSON Lines: one record a line."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic_core import from_json

from dpo_data.errors import RowError
from dpo_data.options import DEFAULT_MAX_ROW_BYTES
from dpo_data.readers import rows
from dpo_data.readers.rows import Block, Format, RawRow
from dpo_data.readers.streams import UTF8_MARK

#: Types of the values of most records.
STRINGS = {str}


def read_lines(stream: Any, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES) -> Iterator[Block]:
    """Yield whole lines as bytes, in blocks of about `CHUNK_BYTES`.

    Raises: OSError: a line has more than `max_row_bytes`.
    """
    line = 1
    rest = bytearray()  # the start of a line whose end was not read yet
    separator = b"\n"
    while block := stream.read(rows.CHUNK_BYTES):
        if line == 1 and not rest:
            while block.startswith(UTF8_MARK):
                block = block.removeprefix(UTF8_MARK)
            if b"\n" not in block and b"\r" in block.rstrip():
                separator = b"\r"  # of old Macs
        if separator == b"\r":
            block = block.replace(b"\r", b"\n")
        end = block.rfind(b"\n")
        if end < 0:
            rest += block
            rows.refuse_longer_row(len(rest), max_row_bytes, line)
            continue
        payload = b"".join([rest, memoryview(block)[:end]])
        rest = bytearray(block[end + 1 :])
        yield Block(line, payload)
        line += payload.count(b"\n") + 1
    if rest:
        yield Block(line, bytes(rest))


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
                if has_only_strings(value, text):
                    yield RawRow(line, value, text)
                else:
                    yield RawRow(line, as_row(value), text, duplicate_key(value, text))


def has_only_strings(value: Any, text: bytes) -> bool:
    """Return True if a JSON text is an object whose values are strings, and no key is there twice.

    False where counting quotes alone does not show it.
    """
    if not isinstance(value, dict) or set(map(type, value.values())) != STRINGS:
        return False
    # Two quotes around each key, two around each string, and those that the strings escape.
    escaped = text.count(b'"') - 4 * len(value)
    return escaped == 0 or (b"\\\\" not in text and escaped == text.count(b'\\"'))


def _parse_json(text: str) -> dict[str, Any] | RowError:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RowError("unreadable_row", "", f"the line is not JSON: {error.msg} (column {error.colno}).")
    except (ValueError, RecursionError) as error:
        return RowError("unreadable_row", "", f"the line is not JSON that can be read: {error}.")
    return as_row(value)


def duplicate_key(value: Any, text: bytes) -> tuple[str, str] | None:
    """Return a warning if an object in a JSON text has a key twice; its last value is the one that counts.

    Args:
        value: the parsed text.
        text: in JSON.
    """
    keys, strings = _count_keys_and_strings(value)
    # Quotes are around the keys and strings that are left, around those that are lost, and inside strings. The text is
    # parsed again only where their numbers, and that of the colons after keys, do not show that none is lost.
    if text.count(b'"') == 2 * (keys + strings):
        return None
    if text.count(b'":') - text.count(b'\\":') == keys and b'" :' not in text and b'\\\\":' not in text:
        return None
    repeated: list[str] = []
    with suppress(ValueError, RecursionError):  # numbers and depths that only the faster parser takes
        json.loads(text, object_pairs_hook=partial(_noting_repeated, repeated))
    return ("duplicate_key", f'the key "{repeated[0]}" is there twice; its last value counts.') if repeated else None


def _count_keys_and_strings(value: Any) -> tuple[int, int]:
    """Return the number of keys of all objects in a value, and of all strings that are values."""
    keys = strings = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            keys += len(item)
            item = item.values()
        elif not isinstance(item, list):
            continue
        for part in item:
            if isinstance(part, str):
                strings += 1
            elif isinstance(part, dict | list):
                pending.append(part)
    return keys, strings


def _noting_repeated(repeated: list[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as an object, and note the keys that several of them have."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        repeated += [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    return fields


def as_row(value: Any) -> dict[str, Any] | RowError:
    """Return the record, or a `RowError` if it is not an object with named fields.

    A list of objects becomes an object with the one field `records`.
    """
    if isinstance(value, dict):
        return value
    if value and isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return {"records": value}
    return RowError("unreadable_row", "", f"the record is {type(value).__name__}, not an object with named fields.")


JSONL = Format("jsonl", (".jsonl", ".ndjson"), read_lines, parse_lines)
