"""Folders that appear only when they are complete, and that replace only what this program wrote.

A folder is built in its `.partial`, which holds a lock as long as a run builds there. To publish it, the old manifest
goes to `.partial`, the files that it names are removed, the new ones are moved, and the new manifest comes last. A run
that is killed at any step leaves the old folder, the new one, or an unfinished one that the next run clears.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, Literal

from filelock import FileLock, Timeout

from dpo_data.errors import UsageError, argument, writing
from dpo_data.prepared.files import EXPORT, LOCK, MANIFEST, PARTIAL, VERSIONS, is_file_name, is_utf8
from dpo_data.prepared.steps import CHANGES, LEFT_OUT

Kind = Literal["prepared", "tokens", "export"]

#: The file of each kind of folder that comes last, and names the others.
_MARKERS: dict[Kind, str] = {"prepared": MANIFEST, "tokens": MANIFEST, "export": EXPORT}

#: The manifest of the folder that is being replaced.
_REPLACED = "replaced.json"
#: What this program writes into a folder without naming it in the manifest.
_UNNAMED = {
    "prepared": ("provenance.json", "report.json", "report.html", LEFT_OUT, CHANGES),
    "tokens": ("provenance.json",),
    "export": ("README.md", "axolotl.yaml", "dataset_info.json"),
}
_QUARANTINE = "quarantine"
#: How long a run waits for one that is about to end, in seconds.
_LOCK_TIMEOUT_S = 0.2
#: In the name of a folder that was set aside.
_DAMAGED = ".damaged"


@contextmanager
def building(folder: Path, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Give a scratch folder that becomes `folder` if the block ends without an exception, and is removed otherwise.

    Of a folder that is replaced, the files go that its manifest names, with reports, quarantine and the caches of
    `datasets`; others stay. Links in it are removed, and never followed; the folder itself may be a link.

    Args:
        folder: new, empty, unfinished, rejected, or (with `overwrite`) finished.
        kind: of the folder; one of another kind is never replaced.
        overwrite: replace a finished folder, which stays as it is until the new one is complete.

    Raises: UsageError: the folder has other files, is finished, or is being written by another run; or the system
        refuses to write (no permission, disk full).
    """
    partial = folder / PARTIAL
    existed = folder.exists()
    with writing(folder):
        _check_before_lock(folder, kind, overwrite=overwrite)
        lock = _acquire_lock(folder)
    try:
        try:
            # Again: another run may have published the folder before this one got the lock.
            with writing(folder):
                names = _replaced_names(folder, kind, overwrite=overwrite)
                if not (folder / _MARKERS[kind]).exists():  # what a run left that was killed while it published
                    _remove(folder, names)
                    names = set()
                _clear(partial)
            with writing(folder):
                yield partial
                _refuse_files_of_others(partial, folder, names | {_MARKERS[kind]})
        except BaseException as error:
            _remove_partial(partial)
            if not existed:
                with suppress(OSError):
                    folder.rmdir()
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"{folder}: nothing of this run was left behind.")
            raise
        # A run that is killed from here on leaves `.partial`, which marks the folder as unfinished.
        with writing(folder):
            _publish(partial, folder, names, _MARKERS[kind])
            _remove_partial(partial)
    finally:
        lock.release()


def set_aside_if_unreadable(folder: Path, kind: Kind) -> Path | None:
    """Rename a folder that is neither finished, unfinished nor empty, and return its new path; None for another."""
    if not folder.is_dir() or os.path.lexists(folder / PARTIAL) or not any(folder.iterdir()):
        return None
    if _read_manifest(folder / MANIFEST, kind) is not None:
        return None
    return set_aside(folder)


def set_aside(folder: Path) -> Path:
    """Rename a folder to its name with `.damaged` and, if there is one, a number; return the new path.

    Raises: UsageError: the system refuses to.
    """
    aside, number = folder.with_name(folder.name + _DAMAGED), 1
    while os.path.lexists(aside):
        number += 1
        aside = folder.with_name(f"{folder.name}{_DAMAGED}-{number}")
    with writing(folder):
        folder.rename(aside)
    return aside


def is_set_aside(folder: Path) -> bool:
    """Return True if a folder has the name of one that was set aside."""
    return _DAMAGED in folder.name


def _check_before_lock(folder: Path, kind: Kind, *, overwrite: bool) -> None:
    """Raise UsageError if a folder must not be replaced; nothing is decided about one that another run may publish."""
    for attempt in range(3):
        try:
            _replaced_names(folder, kind, overwrite=overwrite)
        except FileNotFoundError:  # another run has moved a file meanwhile
            continue
        except UsageError:
            if os.path.lexists(folder / PARTIAL) and _is_partial_of_ours(folder / PARTIAL):
                return
            if attempt == 2:
                raise
        else:
            return


def _replaced_names(folder: Path, kind: Kind, *, overwrite: bool) -> set[str]:
    """Return the files of a folder that a new one replaces, as names relative to it.

    Raises: UsageError: the folder must not be replaced.
    """
    if not is_utf8(folder):
        raise UsageError(f"{folder}: the name is not UTF-8, which Arrow requires.\n  Name another folder.")
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a file" if folder.exists() else "a link to a folder that does not exist"
        raise UsageError(f"{folder}: is {what}.\n  Name a folder that is new or empty.")
    partial = folder / PARTIAL
    is_unfinished = os.path.lexists(partial)
    if is_unfinished and not _is_partial_of_ours(partial):
        raise UsageError(
            f"{partial}: is not a folder of this program, which builds its output there.\n"
            "  Rename it, or name another folder."
        )
    manifest = folder / _MARKERS[kind]
    if os.path.lexists(manifest):
        fields = _read_manifest(manifest, kind)
        if fields is None:
            raise UsageError(
                f"{manifest}: is not a manifest of dpo-data {kind}, or of a newer version, or damaged.\n"
                "  Such a folder is never replaced: remove it yourself, or name a folder that is new or empty."
            )
        if not overwrite and fields.get("status") != "rejected":
            replace = argument("overwrite", True)
            raise UsageError(f"{folder}: holds a finished dataset.\n  Replace it with {replace}, or name another.")
        return _named(fields, folder, kind)
    records = [_read_manifest(partial / name, kind) for name in (_REPLACED, _MARKERS[kind])]
    if folder.exists() and not any(records) and any(path.name != PARTIAL for path in folder.iterdir()):
        raise UsageError(f"{folder}: holds files that are not ours.\n  Name a folder that is new or empty.")
    return set().union(*(_named(fields, folder, kind) for fields in records if fields))


def _is_partial_of_ours(partial: Path) -> bool:
    """Return True if a path is a folder that is empty or holds our lock, which is an empty file."""
    if partial.is_symlink() or not partial.is_dir():
        return False
    try:
        lock = (partial / LOCK).lstat()
    except FileNotFoundError:
        return not any(partial.iterdir())
    return S_ISREG(lock.st_mode) and lock.st_size == 0


def _read_manifest(path: Path, kind: Kind) -> dict[str, Any] | None:
    """Return the fields of a manifest of ours; None if it is another file, damaged, or of an unknown version."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("format") != f"dpo-data {kind}":
        return None
    try:
        names = _files_in(fields, kind)
    except (LookupError, TypeError, AttributeError):
        return None
    is_known = fields.get("version") in range(1, VERSIONS[kind] + 1)
    return fields if is_known and all(isinstance(name, str) and is_file_name(name) for name in names) else None


def _files_in(fields: Mapping[str, Any], kind: Kind) -> list[str]:
    """Return the files that a manifest names."""
    files = fields["files"]
    return [entry["file"] for entry in files.values()] if kind == "export" else [*files.keys()]


def _named(fields: Mapping[str, Any], folder: Path, kind: Kind) -> set[str]:
    """Return the files that a manifest names, and those that it does not name but that belong to them."""
    files = _files_in(fields, kind)
    names = {*files, *_UNNAMED[kind]}
    parents = {PurePosixPath(name).parent for name in files if name.endswith(".arrow")}
    for parent in parents:  # datasets keeps the results of `map` beside its data
        names |= {str(parent / path.name) for path in (folder / parent).glob("cache-*.arrow")}
    if kind == "prepared":
        quarantine = folder / _QUARANTINE
        names |= {path.relative_to(folder).as_posix() for path in quarantine.rglob("*") if not path.is_dir()}
    return names


def _acquire_lock(folder: Path) -> FileLock:
    """Lock the `.partial` of a folder, which is made if it is not there.

    Raises: UsageError: another run has the lock.
    """
    partial = folder / PARTIAL
    for _ in range(10):
        lock = FileLock(partial / LOCK)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except (FileNotFoundError, FileExistsError):  # a run that ends has just removed the folder
            continue
        except Timeout:
            break
        return lock
    raise UsageError(f"{folder}: another run is writing it.\n  Wait for it, or name another folder.")


def _clear(partial: Path) -> None:
    """Remove the leftovers of a killed run, those last that say what it replaced; the lock stays."""
    last = (*_MARKERS.values(), _REPLACED)
    for leftover in sorted(partial.iterdir(), key=lambda path: path.name in last):
        if leftover.name == LOCK:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _remove_partial(partial: Path) -> None:
    """Remove what this run, which has the lock, has in `.partial`; another run may be waiting to make it again."""
    with suppress(OSError):
        _clear(partial)
        (partial / LOCK).unlink()
        partial.rmdir()


def _refuse_files_of_others(partial: Path, folder: Path, names: set[str]) -> None:
    """Raise UsageError if a new file would replace one that is not ours."""
    links = {str(path) for name in names for path in _parents(folder / name, folder) if path.is_symlink()}
    for new in _files(partial):
        target = folder / new
        parents = [path for path in _parents(target, folder) if os.path.lexists(path)]
        if any(str(path) in links for path in parents):
            continue  # a link that is removed
        other = next((path for path in parents if path.is_symlink() or not path.is_dir()), None)
        if other is None and os.path.lexists(target):
            is_file = target.is_symlink() or not target.is_dir()
            other = None if is_file and new in names else target
        if other is not None:
            raise UsageError(
                f"{other}: is not a file that this program wrote, and the new folder needs its name.\n"
                "  Move it elsewhere, or name another folder. Nothing was changed."
            )


def _publish(partial: Path, folder: Path, names: set[str], marker: str) -> None:
    """Replace the old files with the new ones: the old marker goes first, the new one comes last."""
    with suppress(FileNotFoundError):
        os.replace(folder / marker, partial / _REPLACED)
    _remove(folder, names)
    for new in _files(partial):
        if new != marker:
            (folder / new).parent.mkdir(parents=True, exist_ok=True)
            os.replace(partial / new, folder / new)
    os.replace(partial / marker, folder / marker)


def _remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files of a folder, and the folders that are empty then; a link on the way is removed, not followed."""
    emptied = set()
    for name in sorted(names):
        path = folder / name
        link = next((parent for parent in _parents(path, folder) if parent.is_symlink()), None)
        if link is not None:
            link.unlink()
        elif path.is_symlink() or path.is_file():
            path.unlink()
            emptied.update(_parents(path, folder))
    for parent in sorted(emptied, reverse=True):
        with suppress(OSError):  # others have files there
            parent.rmdir()


def _files(partial: Path) -> list[str]:
    """Return the finished files in a scratch folder, relative to it."""
    paths = sorted(path for path in partial.rglob("*") if path.is_file())
    names = [path.relative_to(partial).as_posix() for path in paths]
    return [name for name in names if name not in (LOCK, _REPLACED)]


def _parents(path: Path, folder: Path) -> list[Path]:
    """Return the folders between a folder and a path below it, from the top."""
    return [parent for parent in reversed(path.parents) if parent != folder and parent.is_relative_to(folder)]
