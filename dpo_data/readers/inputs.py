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

from dpo_data.errors import InputError, UsageError, argument, first_line, reading
from dpo_data.readers.formats import FORMAT_OF_SUFFIX, FORMATS
from dpo_data.readers.rows import Chunk, Format

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
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
UNREACHABLE_HINT = "Check the address and the network connection, or read a local copy."
#: Package and name of the exceptions that remote file systems raise besides those of Python.
REMOTE_ERRORS = {
    ("aiohttp", "ClientError"),
    ("azure", "AzureError"),
    ("botocore", "BotoCoreError"),
    ("botocore", "ClientError"),
    ("gcsfs", "HttpError"),
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
    ("huggingface_hub", "HfHubHTTPError"),
}


@dataclass(frozen=True)
class InputFile:
    """One raw file.

    Attributes:
        location: its path, its URL, or "-".
        label: its name in the origins of rows.
        split: the split of its rows.
        format: how it is read.
        compression: Arrow's name of its compression, or None.
        unreachable_hint: what to do if the location cannot be reached.
    """

    location: str
    label: str
    split: str
    format: Format
    compression: str | None = None
    unreachable_hint: str = UNREACHABLE_HINT

    def chunks(self, on_read: Callable[[int], None] = lambda position: None) -> Iterator[Chunk]:
        """Read the file.

        Args:
            on_read: called with the position in the raw bytes after each chunk.

        Raises: InputError: the file cannot be opened or ends in the middle of its compression or format.
        """
        with reading(self.label), _reaching(self.location, self.unreachable_hint), self._opened() as (raw, stream):
            seekable = _has_position(raw)
            if self.format.random_access and not seekable:
                raise OSError(f"{self.format.name} files cannot be read from a pipe; save it to a file first")
            for first, payload in self.format.read(stream):
                columns = self.format.columns(payload)
                yield Chunk(self.label, self.split, first, payload, self.format.parse, columns)
                if seekable and not raw.closed:
                    on_read(raw.tell())

    def size_bytes(self) -> int | None:
        """Return the size of the raw file, or None if it is not a local file."""
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
            return pa.PythonFile(_open_url(self.location, self.unreachable_hint), mode="r")
        return pa.OSFile(os.fsencode(self.location))  # as bytes: a name need not be UTF-8


def find_inputs(
    inputs: Iterable[str | Path],
    *,
    split: str | None = None,
    input_format: str | None = None,
    unreachable_hint: str = UNREACHABLE_HINT,
) -> list[InputFile]:
    """Return the files that `inputs` name, in sorted order within each of them.

    Args:
        inputs: files, folders (searched recursively for known formats), globs, URLs that fsspec knows, or "-".
        split: the split of all files; when None, it is inferred from each path, and is train if the path names none.
        input_format: a key of `FORMATS`; when None, it is inferred from each file's name.
        unreachable_hint: what to do if a URL cannot be reached.

    Raises:
        InputError: an input does not exist, contains no file of a known format, or has an unknown format.
        UsageError: a folder is a prepared one, or a file is named twice.
    """
    found: list[tuple[str, str]] = []
    for name in map(str, inputs):
        with reading(name):
            found += _expand(name, unreachable_hint)
    folders = [str(Path(location).resolve().parent) for location, _ in found if _is_local(location)]
    # Labels start at the folder that holds all inputs: the same from any working directory.
    root = Path(commonpath(folders)).parent if folders else Path()
    files = []
    for location, within in found:
        label = Path(location).resolve().relative_to(root).as_posix() if _is_local(location) else location
        # Labels are written into UTF-8 files, and a name may be any bytes.
        label = "stdin" if location == STDIN else label.encode("utf-8", "backslashreplace").decode()
        format_, compression = _format_of(location, input_format)
        files.append(InputFile(location, label, split or split_of(within), format_, compression, unreachable_hint))
    labels = [file.label for file in files]
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise UsageError(f"an input is named twice: {', '.join(repeated)}.")
    return files


def split_of(path: str) -> str:
    """Return the split that a path names: a word in the file's own name, else the nearest folder with such a name."""
    *folders, name = path.lower().split("/")
    words = [*(folder for folder in folders if folder in SPLIT_NAMES), *SPLIT_IN_PATH.findall(name)]
    return SPLIT_NAMES[words[-1]] if words else "train"


def _has_position(raw: Any) -> bool:
    """Return True if a file has a position and can seek: a pipe cannot, although Arrow's `seekable` says so."""
    try:
        raw.tell()
    except OSError:
        return False
    return True


def _is_local(location: str) -> bool:
    return location != STDIN and "://" not in location


def _expand(name: str, unreachable_hint: str) -> list[tuple[str, str]]:
    """Return (location, the part of its path that may name a split) of each file of an input."""
    if name == STDIN:
        return [(STDIN, "")]
    if "://" in name:
        return [(location, _last_two(location)) for location in _expand_url(name, unreachable_hint)]
    path = Path(name)
    if path.is_dir():
        return _expand_folder(path)
    if not path.exists() and has_magic(name):
        matches = sorted(match for match in glob(name, recursive=True) if Path(match).is_file())
        if not matches:
            raise InputError(f"{name}: no file matches.")
        return [(match, _last_two(str(Path(match).resolve()))) for match in matches]
    if not path.exists():
        raise InputError(f"{name}: there is no such file.")
    return [(name, _last_two(str(path.resolve())))]


def _expand_folder(folder: Path) -> list[tuple[str, str]]:
    if (folder / "manifest.json").is_file():
        raise UsageError(
            f"{folder}: is a prepared folder already.\n"
            f"  Check it: dpo-data validate {folder}; tokenize it: dpo-data tokenize {folder}."
        )
    inside = sorted(path for path in _walk(folder) if _has_known_format(path) and not _is_hidden(path, folder))
    if not inside:
        raise InputError(f"{folder}: no file of a known format in this folder.\n  Known: {_known_formats()}.")
    name = folder.resolve().name  # "." has a name too
    return [(str(path), (name / path.relative_to(folder)).as_posix()) for path in inside]


def _walk(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder; unlike Path.rglob, raise an error for a folder without read permission."""

    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in names)


def _last_two(path: str) -> str:
    return "/".join(PurePosixPath(path).parts[-2:])


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _has_known_format(path: Path) -> bool:
    before, last = ["", "", *map(str.lower, path.suffixes)][-2:]
    return last in FORMAT_OF_SUFFIX or (last in COMPRESSIONS and before in FORMAT_OF_SUFFIX)


def _known_formats() -> str:
    return f"{', '.join(FORMAT_OF_SUFFIX)}, text formats also with {', '.join(COMPRESSIONS)}"


def _format_of(location: str, input_format: str | None) -> tuple[Format, str | None]:
    suffixes = PurePosixPath(location).suffixes
    compression = COMPRESSIONS.get(suffixes[-1].lower()) if suffixes else None
    if compression:
        suffixes = suffixes[:-1]
    if input_format is not None:
        format_ = FORMATS.get(input_format)
        if format_ is None:
            raise UsageError(f"choose from {', '.join(FORMATS)}.", "input_format", input_format)
    elif location == STDIN:
        format_ = FORMATS["jsonl"]
    else:
        format_ = FORMAT_OF_SUFFIX.get(suffixes[-1].lower() if suffixes else "")
    if format_ is None:
        raise InputError(
            f"{location}: cannot infer the format from the file name.\n"
            f"  Known: {_known_formats()}; or name it: {argument('input_format', '|'.join(FORMATS))}."
        )
    if compression and format_.random_access:
        raise InputError(f"{location}: a {format_.name} file cannot be compressed as a whole.\n  Decompress it first.")
    return format_, compression


def _expand_url(url: str, unreachable_hint: str) -> list[str]:
    import fsspec

    if not has_magic(url):
        return [url]
    with _reaching(url, unreachable_hint, OSError, ValueError, ImportError):
        filesystem, path = fsspec.url_to_fs(url)
        matches = sorted(filesystem.glob(path))
    if not matches:
        raise InputError(f"{url}: no file matches.")
    return [filesystem.unstrip_protocol(match) for match in matches]


def _open_url(url: str, unreachable_hint: str) -> Any:
    import fsspec

    with _reaching(url, unreachable_hint, OSError, ValueError, ImportError):
        filesystem, path = fsspec.url_to_fs(url)
        return filesystem.open(path, "rb")


@contextmanager
def _reaching(url: str, hint: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise an InputError that names the URL in place of exceptions of these kinds, and of `REMOTE_ERRORS`."""
    try:
        yield
    except Exception as error:
        names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(error).__mro__}
        if not isinstance(error, kinds) and names.isdisjoint(REMOTE_ERRORS):
            raise
        raise InputError(f"{url}: cannot be reached: {first_line(error)}.\n  {hint}") from error
