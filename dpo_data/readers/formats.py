"""Registry of raw file formats, and what names of files and their first bytes say about them."""

import re
from pathlib import PurePosixPath
from typing import NamedTuple

from dpo_data.errors import InputError, UsageError, argument
from dpo_data.readers.arrow import ARROW, PARQUET
from dpo_data.readers.json import JSON, is_json_lines
from dpo_data.readers.jsonl import JSONL
from dpo_data.readers.rows import Format
from dpo_data.readers.streams import HEAD_BYTES
from dpo_data.readers.tables import CSV, TSV, delimited, detect_delimiter

FORMATS: dict[str, Format] = {
    "jsonl": JSONL,
    "json": JSON,
    "csv": CSV,
    "tsv": TSV,
    "parquet": PARQUET,
    "arrow": ARROW,
}
#: Ending of a file name -> its format.
FORMAT_OF_SUFFIX = {suffix: format_ for format_ in FORMATS.values() for suffix in format_.suffixes}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
ARCHIVES = {".zip": "zip", ".tar": "tar"}
#: First bytes of a table -> its format. A page header follows the name of a Parquet file.
TABLE_MAGIC = {b"PAR1\x15": PARQUET, b"ARROW1\0\0": ARROW}
#: First bytes of what is there in place of a file -> what it is, and what to do.
NO_DATA = {
    rb"version https://git-lfs\.github\.com/spec": "it is a pointer of Git LFS; get the file with: git lfs pull",
    rb"\s*<(!DOCTYPE html|html)\b": "it is a web page; download the file itself",
}


class FileKind(NamedTuple):
    """The kind of a file, as far as its name shows.

    Attributes:
        format: of its rows; None for an archive, whose members have formats of their own.
        compression: of the whole file, or None.
        archive: "zip", "tar" or None.
    """

    format: Format | None
    compression: str | None
    archive: str | None


def file_kind(path: str) -> FileKind:
    """Return what a name shows about a file.

    >>> kind = file_kind("data/train.JSONL.gz")
    >>> kind.format.name, kind.compression, kind.archive, file_kind("rows.jsonl.tar.xz")[1:]
    ('jsonl', 'gzip', None, ('xz', 'tar'))
    """
    name = PurePosixPath(path).name.lower()
    if name.endswith(".tgz"):
        name = f"{name[:-4]}.tar.gz"
    stem, dot, last = name.rpartition(".")
    compression = COMPRESSIONS.get(dot + last)
    if compression:
        stem, dot, last = stem.rpartition(".")
    archive = ARCHIVES.get(dot + last)
    return FileKind(None if archive else FORMAT_OF_SUFFIX.get(dot + last), compression, archive)


def require_kind(path: str, input_format: str | None, shown: str) -> FileKind:
    """Return what a file is, by its name and the format that the user named.

    Args:
        path: that ends with the name of the file.
        input_format: a key of `FORMATS`, or None.
        shown: the file in messages.

    Raises:
        InputError: neither shows how to read it, or it is a table that is compressed as a whole.
        UsageError: there is no such format.
    """
    kind = file_kind(path)
    if input_format is not None:
        if input_format not in FORMATS:
            raise UsageError(f"choose from {', '.join(FORMATS)}.", "input_format", input_format)
        kind = kind._replace(format=FORMATS[input_format])
    if kind.format is None and kind.archive is None:
        raise InputError(
            f"{shown}: cannot infer the format from the file name.\n"
            f"  Known: {known_formats()}; or name it: {argument('input_format', '|'.join(FORMATS))}."
        )
    if kind.compression and kind.format and kind.format.random_access:
        raise InputError(f"{shown}: a {kind.format.name} file cannot be compressed as a whole.\n  Decompress it first.")
    return kind


def known_formats() -> str:
    """Return the endings of file names that show a format, in words."""
    text = f"text formats also with {', '.join(COMPRESSIONS)}, and in archives ({', '.join(ARCHIVES)}) that are inputs"
    return f"{', '.join(FORMAT_OF_SUFFIX)}; {text}"


def table_in(head: bytes) -> Format | None:
    """Return the format of a table that begins with these bytes, or None."""
    return next((format_ for magic, format_ in TABLE_MAGIC.items() if head.startswith(magic)), None)


def text_format(format_: Format, head: bytes, *, is_given: bool, delimiter: str | None) -> Format:
    """Return how a text is read that begins with these bytes of UTF-8.

    Args:
        format_: by its name.
        head: its start.
        is_given: the user named the format: JSON Lines are not taken for anything else.
        delimiter: of its fields, or None.

    Raises: OSError: it is not data at all.
    """
    for start, reason in NO_DATA.items():
        if re.match(start, head, re.IGNORECASE):
            raise OSError(reason)
    if format_ in (CSV, TSV) and delimiter:
        return delimited(format_, delimiter)
    if format_ is CSV:
        return delimited(CSV, detect_delimiter(head))
    if format_ is JSONL and not is_given:
        is_whole = len(head) < HEAD_BYTES
        return JSONL if is_json_lines(head.decode("utf-8", "replace"), is_whole=is_whole) else JSON
    return format_
