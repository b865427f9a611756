"""JSON files: an array of records, arrays under the keys of an object, or records one after another."""

import codecs
import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal, NamedTuple

from dpo_data.errors import RowError
from dpo_data.options import DEFAULT_MAX_ROW_BYTES
from dpo_data.readers import rows
from dpo_data.readers.jsonl import as_row, duplicate_key
from dpo_data.readers.rows import Block, Format, RawRow, in_blocks, parsed_rows
from dpo_data.readers.splits import SPLIT_NAMES

SPACE = re.compile(r"[ \t\r\n]*")
SPACE_OR_COMMA = re.compile(r"[ \t\r\n,]*")
KEY = re.compile(r'[ \t\r\n,]*"((?:[^"\\]|\\.)*)"[ \t\r\n]*:[ \t\r\n]*')
#: Keys under which an object holds the records of a file; below those that name a split, they are of that split.
RECORD_KEYS = {"data", "rows", "examples", "records", "instances", *SPLIT_NAMES}
#: Characters of a first object from which on it is taken for one that holds records before its end is read.
LONG_OBJECT = 1 << 20
DECODER = json.JSONDecoder()


def read_json(stream: Any, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES) -> Iterator[Block]:
    """Yield the blocks of a JSON file."""
    values = JsonValues(max_row_bytes)
    for split, of_split in groupby(_json_rows(stream, values), lambda row: values.split):
        yield from in_blocks(of_split, split)


def _json_rows(stream: Any, values: "JsonValues") -> Iterator[RawRow]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    while block := stream.read(rows.CHUNK_BYTES):
        yield from values.feed(decoder.decode(block))
    yield from values.feed(decoder.decode(b"", final=True), last=True)


def is_json_lines(head: str, *, is_whole: bool = True) -> bool:
    r"""Return True if a text that starts like this has one record a line, rather than arrays or longer records.

    Args:
        head: the start of the text.
        is_whole: nothing follows it.

    >>> is_json_lines('{"a": 1}\n{"a": 2}')
    True
    >>> [is_json_lines(head) for head in ('[{"a": 1}, {"a": 2}]', '{\n  "a": 1\n}', '{"data": [{"a": 1}]}')]
    [False, False, False]
    """
    head = head.lstrip("\ufeff \t\r\n")
    line, _, rest = head.partition("\n")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return not _continues(head, is_whole=is_whole)
    if rest.strip():
        return True
    if isinstance(value, list):
        return bool(value) and not _has_objects(value)
    return not isinstance(value, dict) or not (_holds_records(value) or _is_table(value))


def _continues(head: str, *, is_whole: bool) -> bool:
    """Return True if a text, whose first line is not JSON by itself, starts with an array or a longer value."""
    in_array = head.startswith("[")
    try:
        value, end = DECODER.raw_decode(head, _next_position(head, 1) if in_array else 0)
    except (ValueError, RecursionError):
        array = None if is_whole else _next_array(head, 1)
        return array is not None and array.key is not None
    if in_array:
        return isinstance(value, dict) and head[_next_position(head, end) :][:1] in (",", "]")
    return "\n" in head[:end] or head[end:].lstrip(" \t")[:1] in (",", "{")


def _next_position(text: str, position: int) -> int:
    """Return the position of the next character that is not white space."""
    found = SPACE.match(text, position)
    return found.end() if found else position


def _has_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _holds_records(value: dict[str, Any]) -> bool:
    return any(key.lower() in RECORD_KEYS and _has_objects(item) for key, item in value.items())


def _is_table(value: dict[str, Any]) -> bool:
    """Return True if an object is a whole table, as pandas and datasets write one, rather than a record.

    >>> [_is_table(value) for value in ({"q": {"0": "a", "1": "b"}}, {"0": {"q": "a"}}, {"q": ["a", "b"]})]
    [True, True, True]
    >>> _is_table({"columns": ["q"], "index": [0], "data": [["a"]]}), _is_table({"q": "a", "answers": ["b", "c"]})
    (True, False)
    """
    items = list(value.values())
    if items and all(isinstance(item, dict) for item in items):
        return all(map(str.isdecimal, value)) or all(item and all(map(str.isdecimal, item)) for item in items)
    if {"columns", "data"} <= set(value):
        return True
    are_columns = all(isinstance(item, list) and len(item) > 1 and not _has_objects(item) for item in items)
    return bool(items) and are_columns and len({len(item) for item in items}) == 1


class Array(NamedTuple):
    """An array of records in an object; at the end of the object, `key` is None.

    Attributes:
        key: its key.
        position: after its bracket, or after that of the object.
    """

    key: str | None
    position: int


def _next_array(text: str, position: int) -> Array | None:
    """Return the next array of records among the members of an object; other members are skipped.

    Args:
        text: the object, from somewhere on.
        position: before a member.

    Returns: None if the text ends before it is found.
    """
    while member := KEY.match(text, position):
        start = member.end()
        if text[start : start + 1] == "[" and member[1].lower() in RECORD_KEYS:
            first = text[_next_position(text, start + 1) :][:1]
            if first in ("{", "]"):
                return Array(member[1], start + 1)
            if not first:
                return None
        try:
            _, position = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            return None
    found = SPACE_OR_COMMA.match(text, position)
    end = found.end() if found else position
    return Array(None, end + 1) if text[end : end + 1] == "}" else None


class JsonValues:
    """The values of a JSON text that arrives in blocks.

    The text is an array, an object with arrays of records, JSON Lines, or values over several lines. The first value
    decides which, and only lines can be skipped where they are broken: elsewhere the text after a broken value cannot
    be separated.

    Attributes:
        split: the split that the key of the current array names, or None.
    """

    def __init__(self, max_row_bytes: int = DEFAULT_MAX_ROW_BYTES) -> None:
        self._max_row_bytes = max_row_bytes
        self.split: str | None = None
        self._layout: Literal["array", "object", "closed", "lines", "objects"] | None = None
        self._in_object = False
        self._text = ""
        self._position = 0
        self._line = 1
        self._needed = 0

    def feed(self, block: str, *, last: bool = False) -> Iterator[RawRow]:
        """Yield the values that are complete with this block.

        Args:
            block: the next part of the text.
            last: nothing follows it.

        Raises: OSError: a value is too long, the text is a table by columns, does not end, has more text after its end,
            or the text after a broken value cannot be separated.
        """
        self._text = self._text[self._position :] + block
        self._position = 0
        if len(self._text) < self._needed and not last:
            rows.refuse_longer_row(len(self._text), self._max_row_bytes, self._line)
            return
        while self._move_to_value(last=last):
            decoded = self._decode(last=last)
            if decoded is None:
                break
            row, end = decoded
            self._move_to(end)
            yield row
        rows.refuse_longer_row(len(self._text) - self._position, self._max_row_bytes, self._line)
        # A long value is not decoded again at each block, but whenever its text has doubled.
        self._needed = 2 * (len(self._text) - self._position)
        if last and self._layout in ("array", "object"):
            bracket = "]" if self._layout == "array" else "}"
            raise OSError(f'the {self._layout} does not end: "{bracket}" is missing at line {self._line}')

    def _move_to(self, position: int) -> None:
        self._line += self._text.count("\n", self._position, position)
        self._position = position

    def _move_to_value(self, *, last: bool) -> bool:
        """Move to the next value, through the brackets around it; return False if the text ends before it."""
        while True:
            between = SPACE if self._layout is None else SPACE_OR_COMMA
            if match := between.match(self._text, self._position):
                self._move_to(match.end())
            character = self._text[self._position : self._position + 1]
            if not character:
                return False
            if self._layout is None:
                if not self._open(character, last=last):
                    return False
                if self._layout not in ("array", "object"):
                    return True
            elif self._layout == "object":
                if not self._move_to_array():
                    return False
            elif self._layout == "array" and character == "]":
                self._layout = "object" if self._in_object else "closed"
                self._position += 1
            elif self._layout == "closed":
                raise OSError(f"more text follows the end of the records at line {self._line}")
            else:
                return True

    def _open(self, character: str, *, last: bool) -> bool:
        """Decide the layout by the first value, and move into it if it holds records; return False to wait for more.

        Raises: OSError: the value is a table by columns.
        """
        try:
            value, end = DECODER.raw_decode(self._text, self._position)
        except (ValueError, RecursionError):
            if character == "[":
                self._layout = "array"
            elif character == "{" and len(self._text) > LONG_OBJECT:
                array = _next_array(self._text, self._position + 1)
                self._layout = "object" if array is not None and array.key is not None else None
        else:
            after = self._text[_next_position(self._text, end) :][:1]
            if not after and not last:
                return False
            if isinstance(value, list) and after != "[":
                self._layout = "array"
            elif isinstance(value, dict) and not after and _holds_records(value):
                self._layout = "object"
            elif isinstance(value, dict) and not after and _is_table(value):
                raise OSError(
                    "it holds a whole table in one object; write its rows instead, as pandas does with "
                    'to_json(orient="records", lines=True)'
                )
            else:
                self._layout = "objects" if "\n" in self._text[self._position : end] else "lines"
        if self._layout in ("array", "object"):
            self._in_object = self._layout == "object"
            self._position += 1
        return True

    def _move_to_array(self) -> bool:
        """Move into the next array of records of the object, or to its end; return False if the text ends before."""
        array = _next_array(self._text, self._position)
        if array is None:
            return False
        self._layout = "closed" if array.key is None else "array"
        self.split = SPLIT_NAMES.get((array.key or "").lower())
        self._move_to(array.position)
        return True

    def _decode(self, *, last: bool) -> tuple[RawRow, int] | None:
        """Return the value at the position and where it ends, or None if the next block may continue it."""
        try:
            value, end = DECODER.raw_decode(self._text, self._position)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            line_end = self._text.find("\n", self._position)
            if self._layout == "lines" and (line_end >= 0 or last):
                end = line_end if line_end >= 0 else len(self._text)
                broken = RowError("unreadable_row", "", f"the line is not JSON: {reason}.")
                return RawRow(self._line, broken, self._text[self._position : end]), end
            if not last:
                return None
            line = self._line + self._text.count("\n", self._position, getattr(error, "pos", self._position))
            raise OSError(f"broken JSON at line {line}: {reason}; the text after it cannot be separated") from error
        if end == len(self._text) and not last:  # a number may continue
            return None
        text = self._text[self._position : end]
        doubt = duplicate_key(value, text.encode("utf-8", "surrogatepass"))
        return RawRow(self._line, as_row(value), text, doubt), end


JSON = Format("json", (".json",), read_json, parsed_rows)
