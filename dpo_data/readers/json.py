"""JSON files: one array of records, or records one after another."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from dpo_data.errors import RowError
from dpo_data.readers import rows
from dpo_data.readers.jsonl import as_row
from dpo_data.readers.rows import Format, RawRow, in_chunks, parsed_rows

SPACE = re.compile(r"[ \t\r\n]*")
SPACE_OR_COMMA = re.compile(r"[ \t\r\n,]*")


def read_json(stream: Any) -> Iterator[tuple[int, Any]]:
    """Yield (first line, rows) of a JSON file, in chunks."""
    return in_chunks(_json_rows(stream))


def _json_rows(stream: Any) -> Iterator[RawRow]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    values = JsonValues()
    while block := stream.read(rows.CHUNK_BYTES):
        yield from values.feed(decoder.decode(block))
    yield from values.feed(decoder.decode(b"", final=True), last=True)


class JsonValues:
    """The values of a JSON text that arrives in blocks.

    The text is an array, JSON Lines, or values over several lines. The first value decides which of the last two, and
    only lines can be skipped where they are broken: elsewhere the text after a broken value cannot be separated.
    """

    def __init__(self) -> None:
        self._decoder = json.JSONDecoder()
        self._layout: Literal["array", "closed array", "lines", "objects"] | None = None
        self._text = ""
        self._position = 0
        self._line = 1

    def feed(self, block: str, *, last: bool = False) -> Iterator[RawRow]:
        """Yield the values that are complete with this block.

        Args:
            block: the next part of the text.
            last: nothing follows it.

        Raises: OSError: the array does not end, or the text after a broken value cannot be separated.
        """
        self._text = self._text[self._position :] + block
        self._position = 0
        while self._move_to_value():
            decoded = self._decode(last)
            if decoded is None:
                return
            value, end = decoded
            text = self._text[self._position : end]
            if self._layout is None:
                self._layout = "objects" if "\n" in text else "lines"
            row = RawRow(self._line, value, text)
            self._move_to(end)
            yield row
        if last and self._layout == "array":
            raise OSError(f'the array does not end: "]" is missing at line {self._line}')

    def _move_to(self, position: int) -> None:
        self._line += self._text.count("\n", self._position, position)
        self._position = position

    def _move_to_value(self) -> bool:
        """Move to the next value, through the brackets of the array; return False if the text ends before it."""
        while True:
            between = SPACE_OR_COMMA if self._layout == "array" else SPACE
            if match := between.match(self._text, self._position):
                self._move_to(match.end())
            character = self._text[self._position : self._position + 1]
            if character == "[" and self._layout is None:
                self._layout = "array"
            elif character == "]" and self._layout == "array":
                self._layout = "closed array"
            else:
                return bool(character)
            self._position += 1

    def _decode(self, last: bool) -> tuple[dict[str, Any] | RowError, int] | None:
        """Return the value at the position and where it ends, or None if the next block may continue it."""
        try:
            value, end = self._decoder.raw_decode(self._text, self._position)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            line_end = self._text.find("\n", self._position)
            if self._layout == "lines" and (line_end >= 0 or last):
                broken = RowError("unreadable_row", "", f"the line is not JSON: {reason}.")
                return broken, line_end if line_end >= 0 else len(self._text)
            if not last:
                return None
            line = self._line + self._text.count("\n", self._position, getattr(error, "pos", self._position))
            raise OSError(f"broken JSON at line {line}: {reason}; the text after it cannot be separated") from error
        # A number at the end of the text may continue.
        return None if end == len(self._text) and not last else (as_row(value), end)


JSON = Format("json", (".json",), read_json, parsed_rows)
