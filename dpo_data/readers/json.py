"""JSON files: one array of records, or records one after another."""

import json
from collections.abc import Iterator
from typing import Any, Literal

from dpo_data.errors import RowError
from dpo_data.readers import rows
from dpo_data.readers.jsonl import as_row
from dpo_data.readers.rows import RawRow, chunked


def read_json(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, records) of a JSON file, in chunks."""
    return chunked(_json_values(stream))


def _json_values(stream: Any) -> Iterator[RawRow]:
    """The objects of one array, or JSON values one after the other: JSON lines, or objects over several lines.

    Raises: OSError: the array does not end, or a value is broken and what follows it cannot be told apart.
    """
    decoder = json.JSONDecoder()
    text, line = "", 1
    layout: Literal["array", "closed array", "lines", "objects"] | None = None
    for block in _text_blocks(stream):
        text += block
        position = 0
        while True:
            start = _skip(text, position, " \t\r\n," if layout == "array" else " \t\r\n")
            if start == len(text):
                break
            if (text[start] == "[" and layout is None) or (text[start] == "]" and layout == "array"):
                layout = "array" if layout is None else "closed array"
                line += text.count("\n", position, start)
                position = start + 1
                continue
            line_end = text.find("\n", start)
            value: Any
            try:
                value, end = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                if layout == "lines" and (line_end >= 0 or not block):
                    end = line_end if line_end >= 0 else len(text)
                    value = RowError("unreadable_row", "", f"the line is not JSON: {getattr(error, 'msg', error)}.")
                elif block:  # the value may go on in the next block
                    break
                else:
                    place = line + text.count("\n", position, getattr(error, "pos", start))
                    reason = getattr(error, "msg", error)
                    raise OSError(f"broken JSON at line {place}: {reason}; the rest cannot be told apart") from error
            if end == len(text) and block:  # a number may go on in the next block
                break
            line += text.count("\n", position, start)
            if layout is None:
                layout = "objects" if "\n" in text[start:end] else "lines"
            yield RawRow(line, value if isinstance(value, RowError) else as_row(value), text[start:end])
            line += text.count("\n", start, end)
            position = end
        line += text.count("\n", position, start)
        text = text[start:]
    if layout == "array":
        raise OSError(f'the array does not end: "]" is missing at line {line}')


def _text_blocks(stream: Any) -> Iterator[str]:
    """Decoded blocks, and an empty one at the end."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    while block := stream.read(rows.CHUNK_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)
    yield ""


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position
