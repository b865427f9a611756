"""Raw rows with their physical position, out of any file format: the only reader of raw files.

It knows nothing of prompts or preferences. A file is cut into chunks whose borders depend on its bytes alone; a chunk
travels to any process and is parsed there, row by row, so that a bad row is an answer and not an exception.
"""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from glob import glob, has_magic
from itertools import chain, groupby, islice
from os.path import commonpath
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import from_json

from dpo_data.errors import InputError, RowError, UsageError, reading

#: Bytes of text, or of Arrow data, in one chunk: about 700 rows of hh-rlhf, a few hundredths of a second of work.
CHUNK_BYTES = 1 << 20

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "eval": "test",
    "dev": "test",
    "val": "test",
    "valid": "test",
    "validation": "test",
}
SPLIT_IN_PATH = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_NAMES)})(?![a-z])", re.IGNORECASE)
STDIN = "-"


class RawRow(NamedTuple):
    """One record of a raw file.

    Attributes:
        line: its physical line in a text file, or its number in a table; counted from 1.
        value: the record, or why it cannot be read.
        text: the record as it stands in a text file; None of a table's.
    """

    line: int
    value: dict[str, Any] | RowError
    text: str | bytes | None

    def raw(self) -> str:
        """The record as text that is valid UTF-8: as it stands in the file, or a table's row as JSON."""
        if isinstance(self.text, bytes):
            return self.text.decode("utf-8", "backslashreplace")
        text = json.dumps(self.value, ensure_ascii=False, default=str) if self.text is None else self.text
        return text.encode("utf-8", "surrogateescape" if self.text else "replace").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Chunk:
    """Consecutive records of one file, not yet parsed.

    Attributes:
        columns: where the format declares them once for all rows.
        max_rows: how many of the records count; all when None.
        opens_file: whether these are the file's first records.
        skip: how many of the first records belong to the chunk before.
        extra: records after these that belong to the last of them.
    """

    file: str
    split: str
    first_line: int
    payload: Any
    parse: Callable[[Any, int], Iterator[RawRow]]
    columns: list[str] | None = None
    max_rows: int | None = None
    opens_file: bool = False
    skip: int = 0
    extra: tuple[RawRow, ...] = ()

    def rows(self) -> Iterator[RawRow]:
        """Parse the records, at most `max_rows` of them; a record that cannot be parsed comes with its `RowError`."""
        own = islice(self.parse(self.payload, self.first_line), self.skip, None)
        return islice(chain(own, self.extra), self.max_rows)


@dataclass(frozen=True)
class InputFile:
    """One raw file: where it is, what origins call it, which split it belongs to, and how to read it."""

    location: str
    label: str
    split: str
    format: str
    compression: str | None

    def chunks(self, on_read: Callable[[int], None] = lambda position: None) -> Iterator[Chunk]:
        """Read the file.

        Args:
            on_read: told the position in the raw bytes after each chunk.

        Raises: InputError: the file cannot be opened or ends in the middle of its compression or format.
        """
        with reading(self.label), self._opened() as (raw, stream):
            seekable = _has_position(raw)
            if self.format in ("parquet", "arrow") and not seekable:
                raise OSError(f"{self.format} files are read in place, not from a pipe; save it to a file first")
            for number, (first_line, payload) in enumerate(READERS[self.format](stream)):
                columns = COLUMNS[self.format](payload) if self.format in COLUMNS else None
                parse = PARSERS[self.format]
                yield Chunk(self.label, self.split, first_line, payload, parse, columns, opens_file=number == 0)
                if seekable and not raw.closed:
                    on_read(raw.tell())

    def size_bytes(self) -> int | None:
        """Size of the raw file, where it is cheap to know."""
        path = Path(self.location)
        return path.stat().st_size if self.location != STDIN and path.is_file() else None

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        with ExitStack() as stack:
            raw = stack.enter_context(self._open_raw())
            stream = stack.enter_context(pa.CompressedInputStream(raw, self.compression)) if self.compression else raw
            yield raw, stream

    def _open_raw(self) -> Any:
        if self.location == STDIN:
            return pa.PythonFile(sys.stdin.buffer, mode="r")
        if "://" in self.location:
            return pa.PythonFile(_open_url(self.location), mode="r")
        return pa.OSFile(os.fsencode(self.location))  # as bytes: a name need not be UTF-8


# Rows that belong together.

#: What rows that belong together share; None of a row that stands for itself.
GroupKey = Callable[[dict[str, Any]], Hashable]


def groups(rows: Iterable[RawRow], key: GroupKey | None) -> Iterator[list[RawRow]]:
    """Rows in lists: those that follow each other with one key together, every other by itself."""
    if key is None:
        return ([row] for row in rows)
    return chain.from_iterable(
        ([row] for row in run) if shared is None else [list(run)] for shared, run in groupby(rows, _key_of(key))
    )


def whole_groups(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """The chunks of one file, none of which ends inside a group: the rows that go on with its last key move into it."""
    key_of = _key_of(key)
    held: Chunk | None = None
    last: Hashable = None
    for chunk in chunks:
        rows = list(chunk.rows())
        moved = 0
        if held is not None and last is not None:
            while moved < len(rows) and key_of(rows[moved]) == last:
                moved += 1
            held = replace(held, extra=held.extra + tuple(rows[:moved]))
        if moved == len(rows):
            continue
        if held is not None:
            yield held
        held, last = replace(chunk, skip=moved), key_of(rows[-1])
    if held is not None:
        yield held


def gathered(chunks: Iterable[Chunk], key: GroupKey) -> Iterator[Chunk]:
    """The rows of one file in chunks again, groups together in the order of their first rows; held in memory."""
    key_of = _key_of(key)
    by_key: dict[Hashable, list[RawRow]] = {}
    first: Chunk | None = None
    for chunk in chunks:
        first = first or chunk
        for row in chunk.rows():
            shared = key_of(row)
            by_key.setdefault(("row", row.line) if shared is None else ("key", shared), []).append(row)
    if first is None:
        return
    for line, rows in _chunked(chain.from_iterable(by_key.values())):
        yield replace(first, first_line=line, payload=rows, parse=_parse_records)
        first = replace(first, opens_file=False)


def _key_of(key: GroupKey) -> Callable[[RawRow], Hashable]:
    return lambda row: None if isinstance(row.value, RowError) else key(row.value)


def find_inputs(inputs: Iterable[str], *, split: str | None = None, input_format: str | None = None) -> list[InputFile]:
    """The files that `inputs` name, in sorted order within each of them.

    Args:
        inputs: files, folders (searched to the bottom for known formats), globs, URLs that fsspec knows, or "-".
        split: the split of all of them; when None, train or test is read off each path, and is train where neither is.
        input_format: a value of `FORMATS`; when None it is read off each file's name.

    Raises:
        InputError: an input does not exist, is empty of known files, or has an unknown format.
        UsageError: a folder is one that this program made.
    """
    found: list[tuple[str, str]] = []
    for name in inputs:
        with reading(name):
            found += _expand(name)
    folders = [str(Path(location).resolve().parent) for location, _ in found if _is_local(location)]
    # Labels start at the folder that holds all inputs: the same from any working directory.
    root = Path(commonpath(folders)).parent if folders else Path()
    files = []
    for location, within in found:
        label = Path(location).resolve().relative_to(root).as_posix() if _is_local(location) else location
        # Labels are written into UTF-8 files, and a name may be any bytes.
        label = "stdin" if location == STDIN else label.encode("utf-8", "backslashreplace").decode()
        format_, compression = _format_of(location, input_format)
        files.append(InputFile(location, label, split or split_of(within), format_, compression))
    labels = [file.label for file in files]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"an input is named twice: {', '.join(twice)}.")
    return files


def _has_position(raw: Any) -> bool:
    """Whether a file can tell where it is and be sought in: a pipe cannot, and Arrow's `seekable` says it can."""
    try:
        raw.tell()
    except OSError:
        return False
    return True


def _is_local(location: str) -> bool:
    return location != STDIN and "://" not in location


def _expand(name: str) -> list[tuple[str, str]]:
    """(location, the part of its path that may name a split) of each file that an input stands for."""
    if name == STDIN:
        return [(STDIN, "")]
    if "://" in name:
        return [(location, _last_two(location)) for location in _expand_url(name)]
    path = Path(name)
    if path.is_dir():
        if (path / "manifest.json").is_file():
            raise UsageError(
                f"{name}: is a prepared folder already.\n"
                f"  See what is in it: dpo-data validate {name}; make tokens of it: dpo-data tokenize {name}."
            )
        inside = sorted(p for p in _walk(path) if _known(p) and not _hidden(p, path))
        if not inside:
            raise InputError(f"{name}: no file of a known format in this folder.\n  Known: {_known_formats()}.")
        named = path.resolve().name  # "." has a name too
        return [(str(p), (named / p.relative_to(path)).as_posix()) for p in inside]
    if not path.exists() and has_magic(name):
        matches = sorted(match for match in glob(name, recursive=True) if Path(match).is_file())
        if not matches:
            raise InputError(f"{name}: no file matches.")
        return [(match, _last_two(str(Path(match).resolve()))) for match in matches]
    if not path.exists():
        raise InputError(f"{name}: there is no such file.")
    return [(name, _last_two(str(path.resolve())))]


def _walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder; unlike Path.rglob it does not pass over folders that it may not read."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)


def _last_two(path: str) -> str:
    return "/".join(PurePosixPath(path).parts[-2:])


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _known(path: Path) -> bool:
    before, last = ["", "", *map(str.lower, path.suffixes)][-2:]
    return last in FORMATS or (last in COMPRESSIONS and before in FORMATS)


def _known_formats() -> str:
    return f"{', '.join(FORMATS)}, text formats also with {', '.join(COMPRESSIONS)}"


def split_of(path: str) -> str:
    """The split that a path names: a word in the file's own name, else the name of the nearest folder that is one."""
    *folders, name = path.lower().split("/")
    words = [*(folder for folder in folders if folder in SPLIT_NAMES), *SPLIT_IN_PATH.findall(name)]
    return SPLIT_NAMES[words[-1]] if words else "train"


def _format_of(location: str, input_format: str | None) -> tuple[str, str | None]:
    suffixes = PurePosixPath(location).suffixes
    compression = COMPRESSIONS.get(suffixes[-1].lower()) if suffixes else None
    if compression:
        suffixes = suffixes[:-1]
    format_ = input_format or ("jsonl" if location == STDIN else FORMATS.get(suffixes[-1].lower() if suffixes else ""))
    if format_ is None:
        raise InputError(
            f"{location}: the name does not tell the format.\n"
            f"  Known: {_known_formats()}; or say it: --input-format {'|'.join(dict.fromkeys(FORMATS.values()))}."
        )
    if compression and format_ in ("parquet", "arrow"):
        raise InputError(f"{location}: {format_} files are read in place and cannot be compressed as a whole.")
    return format_, compression


def _expand_url(url: str) -> list[str]:
    import fsspec

    if not has_magic(url):
        return [url]
    with _reaching(url):
        filesystem, path = fsspec.url_to_fs(url)
        matches = sorted(filesystem.glob(path))
    if not matches:
        raise InputError(f"{url}: no file matches.")
    return [filesystem.unstrip_protocol(match) for match in matches]


def _open_url(url: str) -> Any:
    import fsspec

    with _reaching(url):
        filesystem, path = fsspec.url_to_fs(url)
        return filesystem.open(path, "rb")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Whatever a remote file system raises becomes one error: each has its own exceptions."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"{url}: cannot be reached: {reason}.\n"
            "  Read a file you have: --input FILE. Or try the embedded sample: --sample (sources that have one)."
        ) from error


# Readers: a stream to (first line, payload) of each chunk. Parsers: such a payload to rows.


def _read_lines(stream: Any) -> Iterator[tuple[int, bytes]]:
    line, rest = 1, b""
    while block := stream.read(CHUNK_BYTES):
        if line == 1 and not rest:
            _refuse_utf16(block)
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


def _refuse_utf16(start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise OSError("it is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8")


def _parse_lines(payload: bytes, first_line: int) -> Iterator[RawRow]:
    for line, text in enumerate(payload.split(b"\n"), first_line):
        if text and not text.isspace():
            try:
                # Twice as fast as the standard library's, and as strict; what it refuses gets a second hearing below.
                value = from_json(text)
            except ValueError:
                yield RawRow(line, _parse_json(text.decode("utf-8", "surrogateescape")), text)
            else:
                yield RawRow(line, _as_row(value), text)


def _parse_json(text: str) -> dict[str, Any] | RowError:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RowError("unreadable_row", "", f"the line is not JSON: {error.msg} (column {error.colno}).")
    except (ValueError, RecursionError) as error:
        return RowError("unreadable_row", "", f"the line is not JSON that can be read: {error}.")
    return _as_row(value)


def _as_row(value: Any) -> dict[str, Any] | RowError:
    if isinstance(value, dict):
        return value
    return RowError("unreadable_row", "", f"the record is {type(value).__name__}, not an object with named fields.")


def _parse_records(payload: list[RawRow], first_line: int) -> Iterator[RawRow]:
    return iter(payload)


def _chunked(rows: Iterable[RawRow]) -> Iterator[tuple[int, list[RawRow]]]:
    """Rows that only their reader can tell apart, in chunks."""
    chunk: list[RawRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row.text or "")
        if size >= CHUNK_BYTES:
            yield chunk[0].line, chunk
            chunk, size = [], 0
    if chunk:
        yield chunk[0].line, chunk


def _read_json(stream: Any) -> Iterator[tuple[int, Any]]:
    return _chunked(_json_values(stream))


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
            yield RawRow(line, value if isinstance(value, RowError) else _as_row(value), text[start:end])
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
    while block := stream.read(CHUNK_BYTES):
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)
    yield ""


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _refuse_repeated(columns: list[str]) -> None:
    if len(set(columns)) < len(columns):
        raise OSError(f"the header names a column twice: {', '.join(columns)}")


def _csv_rows(stream: Any, delimiter: str) -> Iterator[RawRow]:
    """The rows of a table under its header.

    Raises: OSError: the header names a column twice, or the file ends inside a quoted field.
    """
    csv.field_size_limit(sys.maxsize)
    # TextIOWrapper wants read1, which Arrow's streams lack; the buffer adds it.
    text = io.TextIOWrapper(io.BufferedReader(stream), "utf-8-sig", "surrogateescape", newline="")
    record: list[str] = []  # the physical lines of the record at hand
    reader = csv.reader((record.append(line) or line for line in text), delimiter=delimiter, strict=True)  # type: ignore[func-returns-value]
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        record.clear()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error):
                raise OSError(f"it ends inside a quoted field that starts at line {first}") from error
            if header is None:
                raise OSError(f"the header is malformed: {error}") from error
            yield RawRow(
                first, RowError("unreadable_row", "", f"the line is not a table row: {error}."), "".join(record)
            )
            continue
        if not fields:
            continue
        if header is None:
            header = fields
            _refuse_repeated(header)
        else:
            value: dict[str, Any] | RowError = dict(zip(header, fields, strict=False))
            if len(fields) != len(header):
                value = RowError("unreadable_row", "", f"the row has {len(fields)} fields, the header {len(header)}.")
            yield RawRow(first, value, "".join(record))


def _read_csv(stream: Any) -> Iterator[tuple[int, Any]]:
    return _chunked(_csv_rows(stream, ","))


def _read_tsv(stream: Any) -> Iterator[tuple[int, Any]]:
    return _chunked(_csv_rows(stream, "\t"))


def _read_parquet(stream: Any) -> Iterator[tuple[int, Any]]:
    return _sliced(pq.ParquetFile(stream).iter_batches(batch_size=1000))


def _read_arrow(stream: Any) -> Iterator[tuple[int, Any]]:
    return _sliced(_arrow_batches(stream))


def _arrow_batches(stream: Any) -> Iterator[Any]:
    """Batches of a file in either of Arrow's two layouts."""
    start = stream.read(6)
    stream.seek(0)
    if start == b"ARROW1":
        reader = pa.ipc.open_file(stream)
        return (reader.get_batch(i) for i in range(reader.num_record_batches))
    return iter(pa.ipc.open_stream(stream))


def _sliced(batches: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    row = 1
    for batch in batches:
        _refuse_repeated(batch.schema.names)
        for start in range(0, batch.num_rows, 1000):
            yield row, batch.slice(start, 1000)
            row += min(1000, batch.num_rows - start)


def _parse_batch(payload: Any, first_line: int) -> Iterator[RawRow]:
    try:
        rows = [RawRow(row, value, None) for row, value in enumerate(payload.to_pylist(), first_line)]
    except (ValueError, OverflowError, pa.ArrowException):
        rows = [_parse_table_row(payload.slice(i, 1), first_line + i) for i in range(payload.num_rows)]
    return iter(rows)


def _parse_table_row(payload: Any, row: int) -> RawRow:
    """One row of a batch, some of whose cells Python cannot hold: text that is no UTF-8, dates after the year 9999."""
    value: dict[str, Any] = {}
    broken: RowError | None = None
    for name, column in zip(payload.schema.names, payload.columns, strict=True):
        try:
            value[name] = column.to_pylist()[0]
        except UnicodeDecodeError as error:
            value[name] = f"<{error}>"
            broken = RowError("invalid_unicode", name, f"{name} is not UTF-8: {error.reason}.")
        except (ValueError, OverflowError, pa.ArrowException) as error:
            value[name] = f"<{error}>"
            broken = RowError("unreadable_row", name, f"{name} cannot be read: {error}.")
    return RawRow(row, broken or value, RawRow(row, value, None).raw() if broken else None)


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
