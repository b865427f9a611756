"""Names and hashes of files."""

import hashlib
import json
import os
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import Any

from xxhash import xxh3_128_hexdigest

MANIFEST = "manifest.json"
#: What a finished export has in place of a manifest.
EXPORT = "export.json"
#: Where a folder is built; a folder that has it without a manifest is unfinished.
PARTIAL = ".partial"
#: In `PARTIAL`, as long as a run builds there; always empty.
LOCK = "lock"
#: Present version of each kind of folder: this program reads it and all before.
VERSIONS = {"prepared": 2, "tokens": 2, "export": 1}


def is_file_name(name: str) -> bool:
    """Return True if a name from a file, such as a manifest, is that of a file below the folder, and no other path.

    >>> [is_file_name(name) for name in ("README.md", "train/data-00000-of-00001.arrow", "../a", "/a", "a/../../b")]
    [True, True, False, False, False]
    """
    path = PurePosixPath(name)
    is_relative = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return is_relative and str(path) == name and "\\" not in name and "\0" not in name and path.parts[0] != PARTIAL


def is_utf8(path: Path) -> bool:
    """Return True if the path can be written as UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fast_hash(path: Path) -> str:
    """Return the XXH3 of the bytes of a file that is not empty, 128 bits in hexadecimal.

    It finds damage at 11 GB/s, SHA-256 at 0.9 GB/s: benchmarks/results/damage_amd-epyc-2-cores_202611.md.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return xxh3_128_hexdigest(content)


def replace_texts(texts: Mapping[Path, str]) -> None:
    """Write files anew, as UTF-8; the old ones stay unless all of the new ones can be written."""
    partial = {path: path.with_name(f".{path.name}.partial") for path in texts}
    try:
        for path, text in texts.items():
            partial[path].write_text(text, encoding="utf-8")
        for path in texts:
            os.replace(partial[path], path)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def hash_json(content: Any) -> str:
    """Return 128 bits of the SHA-256 of anything that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
