"""Names and hashes of files."""

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
#: What a finished export has in place of a manifest.
EXPORT = "export.json"
#: Where a folder is built; a folder that has it without a manifest is unfinished.
PARTIAL = ".partial"


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


def hash_json(content: Any) -> str:
    """Return 128 bits of the SHA-256 of anything that JSON can hold, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
