"""Byte streams of raw files: their start, their decompression, and their text as UTF-8."""

import codecs
import io
import lzma
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import pyarrow as pa

from dpo_data.errors import UsageError, argument

#: Bytes at the start of a file that decide how it is read.
HEAD_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20

#: Compression -> the bytes with which its files begin.
COMPRESSION_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
    "bz2": re.compile(rb"BZh[1-9]1AY&SY"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
}
UTF8_MARK = codecs.BOM_UTF8
#: Byte order mark -> encoding. UTF-32 first: its mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: Encoding -> the bytes with which an ASCII character begins, for files without a byte order mark.
UNMARKED = {
    "utf-32-le": re.compile(rb"[^\0]\0\0\0"),
    "utf-32-be": re.compile(rb"\0\0\0[^\0]"),
    "utf-16-le": re.compile(rb"[^\0]\0[^\0]\0"),
    "utf-16-be": re.compile(rb"\0[^\0]\0[^\0]"),
}
#: Lines with characters beyond ASCII, none of them UTF-8, that show that a file has another encoding. Where there are
#: fewer, or some are UTF-8, the others may be damaged: their rows alone are refused.
FOREIGN_LINES = 20


class BlockStream(io.RawIOBase):
    """A stream over blocks of bytes, of which none is held longer than it takes to read it."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer, and return their number; 0 at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def blocks_of(stream: Any) -> Iterator[bytes]:
    """Yield the rest of a stream in blocks."""
    while block := stream.read(BLOCK_BYTES):
        yield block


def split_head(stream: Any, *, seekable: bool) -> tuple[bytes, Any]:
    """Return the first `HEAD_BYTES` bytes of a stream, and a stream of all its bytes."""
    head = b""
    while len(head) < HEAD_BYTES and (part := stream.read(HEAD_BYTES - len(head))):
        head += part
    if seekable:
        stream.seek(0)
        return head, stream
    return head, BlockStream(chain([head], blocks_of(stream)))


def compression_of(head: bytes) -> str | None:
    """Return the compression of a file that begins with these bytes, or None."""
    return next((name for name, magic in COMPRESSION_MAGIC.items() if magic.match(head)), None)


def decompressed(stream: Any, compression: str) -> Any:
    """Return a stream of the bytes that a compressed stream holds."""
    if compression == "xz":
        return BlockStream(_unpacked_xz(stream))
    return pa.CompressedInputStream(stream if isinstance(stream, pa.NativeFile) else pa.PythonFile(stream), compression)


def _unpacked_xz(stream: Any) -> Iterator[bytes]:
    try:
        with lzma.open(stream) as unpacked:
            yield from blocks_of(unpacked)
    except lzma.LZMAError as error:
        raise OSError(f"xz decompression failed: {error}") from error
    except EOFError as error:
        raise OSError("Truncated compressed stream") from error


def require_encoding(encoding: str | None) -> None:
    """Raise UsageError if Python has no text encoding of that name."""
    if encoding is None:
        return
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as error:
        raise UsageError(
            "there is no such encoding.\n  Usual ones: cp1252, latin-1, utf-16, gb18030, shift_jis.",
            "encoding",
            encoding,
        ) from error


def as_utf8(head: bytes, stream: Any, encoding: str | None) -> tuple[bytes, Any]:
    """Return the start of a text and its stream in UTF-8.

    Args:
        head: the start of the text.
        stream: all of it.
        encoding: of the text; when None, a byte order mark decides, and without one it is UTF-8.

    Raises: OSError: no encoding was given, and the text is not UTF-8 and has no byte order mark.
    """
    if encoding is None:
        encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
        if encoding is None:
            _refuse_other_encodings(head)
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        return head, stream
    return split_head(BlockStream(_recoded(blocks_of(stream), encoding)), seekable=False)


def _refuse_other_encodings(head: bytes) -> None:
    for name, start in UNMARKED.items():
        if start.match(head):
            raise OSError(f"it looks like {name} without a byte order mark; name it: {argument('encoding', name)}")
    if head.isascii():
        return
    lines = [line for line in head.splitlines()[:-1] if not line.isascii()]
    if len(lines) >= FOREIGN_LINES and not any(map(_is_utf8, lines)):
        raise OSError(
            f"it is not UTF-8; name its encoding, such as {argument('encoding', 'cp1252')} (Western Windows), gb18030 "
            "(Chinese) or shift_jis (Japanese)"
        )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _recoded(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield text in UTF-8; a byte that is not of the encoding stays as it is, so that its row alone is refused."""
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")
