"""Locations of input files: paths, folders, globs, URLs and standard input."""

import json
import os
import stat
from collections import deque
from dataclasses import dataclass, field
from glob import escape, glob, has_magic
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dpo_data.errors import InputError, UsageError
from dpo_data.prepared.files import EXPORT, MANIFEST, PARTIAL
from dpo_data.readers.formats import file_kind, known_formats
from dpo_data.readers.remote import expand_url, is_url, path_in

STDIN = "-"
#: Where `datasets` names the files of a dataset that was saved to disk.
STATE = "state.json"
#: Descriptions of datasets, by `datasets` and by LLaMA-Factory.
DESCRIPTIONS = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json")


class Location(NamedTuple):
    """A file to read.

    Attributes:
        name: its path, its URL, or "-".
        within: the part of its path that may name a split.
        prepared: the prepared folder that it is a shard of, or None.
    """

    name: str
    within: str
    prepared: str | None = None


@dataclass(frozen=True)
class Skipping:
    """Folders below an input folder that are not read: those that this program made, and the output to come.

    Attributes:
        output: the folder to write, or None.
        skipped: paths of the folders that were skipped so far.
    """

    output: str | None = None
    skipped: list[str] = field(default_factory=list)

    def skips(self, path: str) -> bool:
        """Return True if a folder is not read, and note it."""
        is_output = self.output is not None and os.path.abspath(path) == os.path.abspath(self.output)
        if is_output or made_by_us(path) is not None:
            self.skipped.append(path)
            return True
        return False

    def note_output_below(self, folder: str) -> None:
        """Note the output if it is below an input folder, also where it does not exist yet."""
        if self.output is not None and self.output not in map(os.path.abspath, self.skipped):
            below = os.path.join(os.path.abspath(folder), "")
            if os.path.abspath(self.output).startswith(below):
                self.skipped.append(self.output)


def made_by_us(folder: str) -> str | None:
    """Return "prepared" or "tokens" for a folder of that kind, "unfinished" for one that a run left; else None."""
    try:
        with open(os.path.join(folder, MANIFEST), "rb") as file:
            fields = json.load(file)
    except (OSError, ValueError, RecursionError):
        return "unfinished" if os.path.isdir(os.path.join(folder, PARTIAL)) else None
    kind = str(fields.get("format")) if isinstance(fields, dict) else ""
    return kind.removeprefix("dpo-data ") if kind.startswith("dpo-data ") else None


def is_local(name: str) -> bool:
    """Return True if a location is a path."""
    return name != STDIN and not is_url(name)


def is_regular(path: str) -> bool:
    """Return True if a path is a file that can be read more than once, other than a pipe."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def expand(name: str, unreachable_hint: str, skipping: Skipping) -> list[Location]:
    """Return the files that an input names, in sorted order; of a prepared folder its shards.

    Raises:
        InputError: there are none, or they cannot be reached.
        UsageError: it is a token cache.
        PreparedError: it is a prepared folder that must not be used.
    """
    if name == STDIN:
        return [Location(STDIN, "")]
    if is_url(name):
        return [Location(url, _last_two(path_in(url))) for url in expand_url(name, unreachable_hint)]
    if name.startswith("~") and not os.path.exists(name):
        name = os.path.expanduser(name)
    if os.path.isdir(name):
        return _expand_folder(name, skipping)
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


def _expand_folder(folder: str, skipping: Skipping) -> list[Location]:
    kind = made_by_us(folder)
    if kind == "tokens":
        raise UsageError(
            f"{folder}: is a token cache, which has no texts.\n  Name the prepared folder that it was made of."
        )
    if kind is not None:
        return _shards(folder)
    found = [path for path in _walk(folder, skipping) if file_kind(path).format]
    skipping.note_output_below(folder)
    if not found:
        reason = f"{folder}: no file of a known format in this folder.\n  "
        if ours := sorted(path for path in skipping.skipped if made_by_us(path) == "prepared"):
            raise InputError(
                f"{reason}It has prepared folders, which `pairs` reads if you name them: {', '.join(ours)}."
            )
        raise InputError(f"{reason}Known: {known_formats()}.")
    found.sort(key=lambda path: path.split(os.sep))
    name = os.path.basename(os.path.abspath(folder))  # "." has a name too
    return [Location(path, _within(path, f"{name}/{os.path.relpath(path, folder)}")) for path in found]


def _shards(folder: str) -> list[Location]:
    from dpo_data.prepared.reader import open_prepared

    splits = open_prepared(folder).manifest.splits
    return [
        Location(os.path.join(folder, *shard.split("/")), f"{split}.arrow", folder)
        for split, entry in splits.items()
        for shard in entry.shards
    ]


def _within(path: str, relative: str) -> str:
    """Return the part of a path that may name a split: of a dataset that was saved to disk, its folder."""
    parent = os.path.dirname(path)
    is_saved = path.endswith(".arrow") and os.path.isfile(os.path.join(parent, STATE))
    return f"{os.path.basename(os.path.abspath(parent))}.arrow" if is_saved else relative


def _files_of_dataset(folder: str, names: list[str]) -> list[str]:
    """Return the files of a folder that have rows: of a dataset that was saved to disk those that its state names.

    The descriptions that `datasets` writes are JSON, too, and it leaves files of its own cache.
    """
    if STATE in names:
        try:
            with open(os.path.join(folder, STATE), "rb") as file:
                return [entry["filename"] for entry in json.load(file)["_data_files"]]
        except (OSError, ValueError, LookupError, TypeError):
            pass  # a file of that name that is not of `datasets`
    return [
        name
        for name in names
        if name not in DESCRIPTIONS and not (name == EXPORT and _describes_export(os.path.join(folder, name)))
    ]


def _describes_export(path: str) -> bool:
    """Return True for the counts of an export; other files of that name have rows."""
    try:
        with open(path, "rb") as file:
            fields = json.load(file)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and fields.get("format") == "dpo-data export"


def _walk(folder: str, skipping: Skipping) -> list[str]:
    """Return every file below a folder and the folders that it links to, each of them once; without hidden ones.

    Of a dataset that was saved to disk, only the files with rows are returned.

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
        names = []
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") or (entry.is_dir() and skipping.skips(entry.path)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, os.path.join(real, entry.name)))
                elif entry.is_dir():
                    links.append(entry.path)
                elif entry.is_file() or entry.is_symlink():
                    names.append(entry.name)
        files += [os.path.join(path, name) for name in _files_of_dataset(path, names)]
    return files


def _last_two(path: str) -> str:
    return "/".join(PurePosixPath(path).parts[-2:])
