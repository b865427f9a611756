"""Splits that paths and keys name."""

import re

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
SPLIT_IN_NAME = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_NAMES)})(?![a-z])", re.IGNORECASE)


def split_of(path: str, default: str = "train") -> str:
    """Return the split that a path names: a word in the file's own name, else the nearest folder with such a name."""
    *folders, name = path.lower().split("/")
    words = [*(folder for folder in folders if folder in SPLIT_NAMES), *SPLIT_IN_NAME.findall(name)]
    return SPLIT_NAMES[words[-1]] if words else default
