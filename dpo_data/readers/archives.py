"""Members of zip and tar archives, read one after another and never written to disk."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from dpo_data.readers.streams import BlockStream, blocks_of

#: Archive -> the position and the bytes by which its files are known.
ARCHIVE_MAGIC = {"zip": (0, b"PK\x03\x04"), "tar": (257, b"ustar")}
#: Flag of an encrypted member of a zip archive.
ENCRYPTED = 1
#: What zipfile raises for a damaged archive; ValueError for names that are not UTF-8 and positions before the start.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, OverflowError)
#: Size of the records that tar writes; an archive ends with two of them that are empty.
TAR_RECORD = 512


def archive_of(head: bytes) -> str | None:
    """Return the kind of archive that begins with these bytes, or None."""
    return next(
        (kind for kind, (start, magic) in ARCHIVE_MAGIC.items() if head[start : start + len(magic)] == magic), None
    )


def members(stream: Any, kind: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, stream) of each file in an archive, which must be read before the next one.

    Args:
        stream: the archive; one of zip needs random access.
        kind: "zip" or "tar".

    Raises: OSError: the archive is damaged, ends early, or is encrypted.
    """
    return _zip_members(stream) if kind == "zip" else _tar_members(stream)


def _zip_members(stream: Any) -> Iterator[tuple[str, Any]]:
    try:
        with zipfile.ZipFile(stream) as archive:
            for member in archive.infolist():
                if not member.filename:
                    raise OSError("damaged zip archive: a member has no name")
                if not member.is_dir():
                    yield member.filename, BlockStream(_zip_blocks(archive, member))
    except (*ZIP_ERRORS, NotImplementedError) as error:
        raise OSError(f"damaged zip archive: {error}") from error


def _zip_blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    if member.flag_bits & ENCRYPTED:
        raise OSError(f"{member.filename} in the archive is encrypted; unpack it first")
    try:
        with archive.open(member) as content:
            yield from blocks_of(content)
    except ZIP_ERRORS as error:
        raise OSError(f"{member.filename} in the archive is damaged: {error}") from error
    except NotImplementedError as error:  # a compression of other programs
        raise OSError(f"{member.filename} in the archive cannot be unpacked: {error}") from error


def _tar_blocks(content: Any) -> Iterator[bytes]:
    try:
        yield from blocks_of(content)
    except tarfile.TarError as error:
        raise OSError(f"damaged tar archive: {error}") from error


def _tar_members(stream: Any) -> Iterator[tuple[str, Any]]:
    last = b""

    def noted() -> Iterator[bytes]:
        nonlocal last
        for block in blocks_of(stream):
            last = (last + block)[-2 * TAR_RECORD :]
            yield block

    blocks = noted()
    try:
        with tarfile.open(fileobj=BlockStream(blocks), mode="r|") as archive:
            for member in archive:
                if member.isfile() and (content := archive.extractfile(member)):
                    yield member.name, BlockStream(_tar_blocks(content))
                archive.members = []  # type: ignore[attr-defined]  # else it would remember every member
    except tarfile.TarError as error:
        raise OSError(f"damaged tar archive: {error}") from error
    for _ in blocks:  # to its end, where compression has its checksum
        pass
    if last.strip(b"\0"):  # tarfile takes an archive that ends between two members for a whole one
        raise OSError("the tar archive ends early")
