"""Find input files by path, folder, glob or URL, with their format and split."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from os.path import commonpath
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from dpo_data.errors import InputError, UsageError, reading
from dpo_data.readers.formats import COLUMNS, PARSERS, READERS
from dpo_data.readers.rows import Chunk

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
