"""Locations of input files: paths, folders, globs, URLs and standard input."""

import os
import stat
from collections import deque
from glob import escape, glob, has_magic
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dpo_data.errors import InputError, UsageError
from dpo_data.readers.formats import file_kind, known_formats
from dpo_data.readers.remote import expand_url, is_url, path_in

STDIN = "-"


class Location(NamedTuple):
    """A file to read.

    Attributes:
        name: its path, its URL, or "-".
        within: the part of its path that may name a split.
    """

    name: str
    within: str


def is_local(name: str) -> bool:
    """Return True if a location is a path."""
    return name != STDIN and not is_url(name)


def is_regular(path: str) -> bool:
    """Return True if a path is a file that can be read more than once, other than a pipe."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def expand(name: str, unreachable_hint: str) -> list[Location]:
    """Return the files that an input names, in sorted order.

    Raises:
        InputError: there are none, or they cannot be reached.
        UsageError: it is a prepared folder.
    """
    if name == STDIN:
        return [Location(STDIN, "")]
    if is_url(name):
        return [Location(url, _last_two(path_in(url))) for url in expand_url(name, unreachable_hint)]
    if name.startswith("~") and not os.path.exists(name):
        name = os.path.expanduser(name)
    if os.path.isdir(name):
        return _expand_folder(name)
    if not os.path.exists(name) and has_magic(name):
        matches = sorted(match for match in _matches(name) if os.path.isfile(match))
        if not matches:
            raise InputError(f"{name}: no file matches.")
        return [Location(match, _last_two(os.path.abspath(match))) for match in matches]
    if not os.path.exists(name):
        raise InputError(f"{name}: there is no such file.")
    return [Location(name, _last_two(os.path.abspath(name)))]


def _matches(pattern: str) -> list[str]:
    """Return the paths that a glob matches; folders at its start that exist are meant as they are named."""
    parts = Path(pattern).parts
    known = ""
    for number, part in enumerate(parts):
        if not os.path.exists(os.path.join(known, part)):
            return glob(os.path.join(escape(known), *parts[number:]), recursive=True)
        known = os.path.join(known, part)
    return [known]


def _expand_folder(folder: str) -> list[Location]:
    if os.path.isfile(os.path.join(folder, "manifest.json")):
        raise UsageError(
            f"{folder}: is a prepared folder already.\n"
            f"  Check it: dpo-data validate {folder}; tokenize it: dpo-data tokenize {folder}."
        )
    found = sorted((path for path in _walk(folder) if file_kind(path).format), key=lambda path: path.split(os.sep))
    if not found:
        raise InputError(f"{folder}: no file of a known format in this folder.\n  Known: {known_formats()}.")
    name = os.path.basename(os.path.abspath(folder))  # "." has a name too
    return [Location(path, f"{name}/{os.path.relpath(path, folder)}") for path in found]


def _walk(folder: str) -> list[str]:
    """Return every file below a folder and the folders that it links to, each of them once; without hidden ones.

    Raises: OSError: a folder cannot be read.
    """
    root = os.path.realpath(folder)
    files = []
    walked = set()
    pending, links = deque([(folder, root)]), deque[str]()
    while pending or links:
        if pending:
            path, real = pending.popleft()
        else:  # what is linked comes last, so that a folder is found under its own name
            path = links.popleft()
            real = os.path.realpath(path)
        if real in walked or root.startswith(os.path.join(real, "")):  # a link may lead back to where it came from
            continue
        walked.add(real)
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, os.path.join(real, entry.name)))
                elif entry.is_dir():
                    links.append(entry.path)
                elif entry.is_file() or entry.is_symlink():
                    files.append(entry.path)
    return files


def _last_two(path: str) -> str:
    return "/".join(PurePosixPath(path).parts[-2:])
