"""Input files: found by path, folder, glob or URL, and read in chunks of rows, whatever they are wrapped in."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from os.path import commonpath
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_data.errors import UsageError, reading
from dpo_data.options import DEFAULT_MAX_ROW_BYTES
from dpo_data.readers.archives import archive_of, members
from dpo_data.readers.formats import FileKind, file_kind, known_formats, require_kind, table_in, text_format
from dpo_data.readers.locations import STDIN, Skipping, expand, is_local, is_regular
from dpo_data.readers.remote import UNREACHABLE_HINT, open_url, path_in, public_url, reaching
from dpo_data.readers.rows import Chunk, Format
from dpo_data.readers.splits import split_of
from dpo_data.readers.streams import as_utf8, compression_of, decompressed, require_encoding, split_head
from dpo_data.readers.tables import CSV, TSV, parse_delimiter

#: Why a file that needs random access cannot be read, and what to do.
FROM_PIPE = "{kind} files cannot be read from a pipe; save it to a file first"
COMPRESSED = "a {kind} file cannot be compressed as a whole; decompress it first"
IN_ARCHIVE = "a {kind} file inside an archive cannot be read; extract it first"


@dataclass(frozen=True)
class InputFile:
    """One raw file.

    Attributes:
        location: its path, its URL, or "-".
        label: its name in the origins of rows.
        split: the split of its rows.
        format: how its rows are read; None for an archive, whose members have formats of their own.
        compression: of the whole file, or None.
        archive: "zip", "tar" or None.
        encoding: of its text; None for UTF-8, or what a byte order mark says.
        delimiter: of the fields of a table in text; None for the one that its header shows.
        split_is_given: the user named the split; else a member of an archive, or a key, may name another.
        format_is_given: the user named the format; else the content may show another.
        unreachable_hint: what to do if the location cannot be reached.
        max_row_bytes: maximum bytes of a row of a text file.
        prepared: the prepared folder that it is a shard of, whose rows have origins and sources; else None.
    """

    location: str
    label: str
    split: str
    format: Format | None
    compression: str | None = None
    archive: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    split_is_given: bool = False
    format_is_given: bool = False
    unreachable_hint: str = UNREACHABLE_HINT
    max_row_bytes: int = DEFAULT_MAX_ROW_BYTES
    prepared: str | None = None

    def chunks(self, on_read: Callable[[int], None] = lambda position: None) -> Iterator[Chunk]:
        """Read the file; the chunks of each member of an archive have the file name and the split of the member.

        Args:
            on_read: called with the position in the raw bytes after each chunk.

        Raises: InputError: the file cannot be opened or ends in the middle of its compression or format.
        """
        with reading(self.label), reaching(self.location, self.unreachable_hint), ExitStack() as stack:
            raw = stack.enter_context(self._open_raw())
            seekable = _has_position(raw)
            for chunk in self._read(raw, stack, seekable=seekable):
                yield chunk
                if seekable and not raw.closed:
                    on_read(raw.tell())

    def size_bytes(self) -> int | None:
        """Return the size of the raw file, or None if it is not a local file."""
        if not is_local(self.location) or not is_regular(self.location):
            return None
        return os.stat(self.location).st_size

    def _open_raw(self) -> Any:
        if self.location == STDIN:
            return pa.PythonFile(sys.stdin.buffer, mode="r")
        if not is_local(self.location):
            random_access = self.archive == "zip" or (self.format is not None and self.format.random_access)
            return pa.PythonFile(open_url(self.location, self.unreachable_hint, random_access=random_access), mode="r")
        if not is_regular(self.location):
            return pa.PythonFile(open(self.location, "rb"), mode="r")
        return pa.OSFile(os.fsencode(self.location))  # as bytes: a name need not be UTF-8

    def _read(self, stream: Any, stack: ExitStack, *, seekable: bool, is_member: bool = False) -> Iterator[Chunk]:
        """Yield the chunks of a stream: decompressed, of an archive's members, in the format that its content shows.

        Args:
            stream: of the file, or of a member.
            stack: closes what is opened.
            seekable: the stream has random access.
            is_member: the stream is that of a member of an archive.

        Raises: OSError: the content is damaged, or needs random access and has none.
        """
        head, stream = split_head(stream, seekable=seekable)
        if compression := self.compression or compression_of(head):
            stream = stack.enter_context(decompressed(stream, compression))
            head, stream = split_head(stream, seekable=False)
        archive = self.archive or archive_of(head)
        format_ = None if archive else self.format if self.format_is_given else table_in(head) or self.format
        needs_random_access = archive == "zip" or (format_ is not None and format_.random_access)
        if (archive and is_member) or (needs_random_access and (compression or not seekable)):
            reason = IN_ARCHIVE if is_member else COMPRESSED if compression else FROM_PIPE
            raise OSError(reason.format(kind=format_.name if format_ else archive))
        if archive:
            yield from self._read_members(members(stream, archive))
        elif format_:
            if not format_.random_access:
                head, stream = as_utf8(head, stream, self.encoding)
                format_ = text_format(format_, head, is_given=self.format_is_given, delimiter=self.delimiter)
            for block in format_.read(stream, self.max_row_bytes):
                split = self.split if self.split_is_given else block.split or self.split
                columns = format_.columns(block.payload)
                yield Chunk(
                    self.label,
                    split,
                    block.line,
                    block.payload,
                    format_.parse,
                    columns,
                    format_.cells,
                    is_prepared=self.prepared is not None,
                )

    def _read_members(self, found: Iterator[tuple[str, Any]]) -> Iterator[Chunk]:
        """Yield the chunks of the members of an archive that have a known format, or the one that the user named."""
        is_empty = True
        for name, stream in found:
            kind = file_kind(name)
            format_ = self.format if self.format_is_given else kind.format
            if format_ is None or any(part.startswith(".") and part.strip(".") for part in name.split("/")):
                continue
            is_empty = False
            member = replace(
                self,
                label=f"{self.label}/{_as_utf8(name.removeprefix('./'))}",
                split=self.split if self.split_is_given else split_of("/".join(name.split("/")[-2:]), self.split),
                format=format_,
                compression=kind.compression,
                archive=None,
            )
            with ExitStack() as stack, reading(member.label):
                yield from member._read(stream, stack, seekable=False, is_member=True)
        if is_empty:
            raise OSError(f"no file in the archive has a known format: {known_formats()}")


def find_inputs(
    inputs: Iterable[str | Path],
    *,
    split: str | None = None,
    input_format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    unreachable_hint: str = UNREACHABLE_HINT,
    max_row_bytes: int = DEFAULT_MAX_ROW_BYTES,
    output: str | Path | None = None,
    on_skip: Callable[[str], None] = lambda label: None,
) -> list[InputFile]:
    """Return the files that `inputs` name, in sorted order within each of them.

    Args:
        inputs: files, folders (searched recursively for known formats), globs, URLs that fsspec knows, or "-".
        split: the split of all files; when None, it is inferred from each path, and is train if the path names none.
        input_format: a key of `FORMATS`; when None, it is inferred from each file's name and content.
        encoding: of text files; when None, UTF-8, or what a byte order mark says.
        delimiter: of CSV and TSV files; when None, it is inferred from the header of a CSV file.
        unreachable_hint: what to do if a URL cannot be reached.
        max_row_bytes: maximum bytes of a row of a text file; a file with a longer one is refused.
        output: a folder that will be written, which is not read.
        on_skip: called with the label of each folder below an input that is not read: prepared folders, token caches,
            and the output.

    Raises:
        InputError: an input does not exist, contains no file of a known format, or has an unknown format.
        UsageError: a folder is a token cache, a file is named twice, or an encoding or a delimiter is not one.
        PreparedError: an input is a prepared folder that must not be used.
    """
    require_encoding(encoding)
    delimiter = parse_delimiter(delimiter)
    found = []
    skipping = Skipping(None if output is None else os.path.abspath(output))
    for name in map(str, inputs):
        with reading(public_url(name)):
            found += expand(name, unreachable_hint, skipping)
    kinds = [_kind(location.name, input_format) for location in found]
    if delimiter and not any(kind.archive or kind.format in (CSV, TSV) for kind in kinds):
        raise UsageError("applies to CSV and TSV files, and no input is one.", "delimiter", delimiter)
    labels = _labels([location.name for location in found], skipping.skipped)
    files = [
        InputFile(
            location=location.name,
            label=label,
            split=split or split_of(location.within),
            format=kind.format,
            compression=kind.compression,
            archive=kind.archive,
            encoding=encoding,
            delimiter=delimiter,
            split_is_given=split is not None,
            format_is_given=input_format is not None,
            unreachable_hint=unreachable_hint,
            max_row_bytes=max_row_bytes,
            prepared=location.prepared,
        )
        for location, kind, label in zip(found, kinds, labels[: len(found)], strict=True)
    ]
    for label in sorted(labels[len(found) :]):
        on_skip(label)
    counts = Counter(file.label for file in files)
    if repeated := sorted(label for label, count in counts.items() if count > 1):
        raise UsageError(f"an input is named twice: {', '.join(repeated)}.")
    return files


def _kind(location: str, input_format: str | None) -> FileKind:
    if location == STDIN:
        return require_kind("", input_format or "jsonl", STDIN)
    return require_kind(path_in(location), input_format, public_url(location))


def _labels(locations: list[str], skipped: list[str]) -> list[str]:
    """Return the names of files in origins, then those of the folders that were skipped.

    Those of local files start at the folder that holds all inputs: the same from any working directory. Links are not
    followed: in a cache of the Hub, every file is a link to one with a meaningless name.
    """
    paths = {location: os.path.abspath(location) for location in locations if is_local(location)}
    root = str(Path(commonpath({os.path.dirname(path) for path in paths.values()})).parent) if paths else ""
    labels = []
    paths |= {path: os.path.abspath(path) for path in skipped}
    for location in (*locations, *skipped):
        if location == STDIN:
            labels.append("stdin")
        elif location in paths:
            labels.append(_as_utf8(Path(paths[location][len(root) :].lstrip(os.sep)).as_posix()))
        else:
            labels.append(_as_utf8(public_url(location)))
    return labels


def _as_utf8(name: str) -> str:
    """Return a name as labels have it, which are written into UTF-8 files; a name may be any bytes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _has_position(raw: Any) -> bool:
    """Return True if a file has a position and can seek: a pipe cannot, although Arrow's `seekable` says so."""
    try:
        raw.tell()
    except OSError:
        return False
    return True
