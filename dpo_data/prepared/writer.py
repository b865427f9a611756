"""Writers of prepared folders and token caches, which appear only when they are complete."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from filelock import FileLock, Timeout

from dpo_data.checks.row_keys import RowPosition
from dpo_data.errors import UsageError, argument, writing
from dpo_data.options import SPLITS, Form
from dpo_data.prepared.files import EXPORT, MANIFEST, PARTIAL, hash_file, is_utf8
from dpo_data.prepared.manifest import (
    FileEntry,
    Manifest,
    ManifestHeader,
    SplitEntry,
    content_hash,
    write_manifest,
)
from dpo_data.prepared.quarantine import QuarantinedRow, QuarantineWriter
from dpo_data.prepared.reader import origin_lookup
from dpo_data.prepared.schema import column_types, features

#: Names in a finished folder that a new one replaces, besides the manifest. The token caches of a prepared folder stay:
#: those of unchanged shards are still valid.
CONTENTS = {
    "prepared": (
        *SPLITS,
        "quarantine",
        "dataset_dict.json",
        "README.md",
        "provenance.json",
        "report.json",
        "report.html",
    ),
    "tokens": (*SPLITS, "dataset_dict.json", "provenance.json", "dropped.jsonl"),
    "export": (
        *(f"{split}.{suffix}" for split in SPLITS for suffix in ("jsonl", "parquet")),
        "README.md",
        "axolotl.yaml",
        "dataset_info.json",
    ),
}
Kind = Literal["prepared", "tokens", "export"]

#: Rows in each Arrow file of a split but the last; token caches reuse the shards that did not change.
SHARD_ROWS = 50_000

_LOCK = "lock"


@contextmanager
def building(folder: Path, kind: Kind, *, overwrite: bool) -> Iterator[Path]:
    """Give a scratch folder that becomes `folder` if the block ends without an exception, and is removed otherwise.

    Args:
        folder: new, empty, unfinished, rejected, or (with `overwrite`) finished.
        kind: decides which files of a finished folder are replaced.
        overwrite: replace a finished folder, which stays as it is until the new one is complete.

    Raises: UsageError: the folder has other files, is finished, or is being written by another run; or the system
        refuses to write (no permission, disk full).
    """
    partial = folder / PARTIAL
    existed = folder.exists()
    marker = EXPORT if kind == "export" else MANIFEST
    with writing(folder):
        _refuse_target(folder, marker, overwrite=overwrite)
        partial.mkdir(parents=True, exist_ok=True)
        lock = _acquire_lock(folder)
    try:
        with writing(folder):
            _clear(partial)
        try:
            with writing(folder):
                yield partial
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not existed:
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, KeyboardInterrupt):
                error.add_note(f"{folder}: nothing of this run was left behind.")
            raise
        # A run that is killed from here on leaves `.partial`, which marks the folder as unfinished.
        with writing(folder):
            _publish(partial, folder, CONTENTS[kind], marker)
    finally:
        lock.release()


def _refuse_target(folder: Path, marker: str, *, overwrite: bool) -> None:
    other = MANIFEST if marker == EXPORT else EXPORT
    if not is_utf8(folder):
        raise UsageError(f"{folder}: the name is not UTF-8, which Arrow requires.\n  Name another folder.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file.\n  Name a folder that is new or empty.")
    if (folder / marker).exists():
        if not overwrite and not _is_rejected(folder):
            replace = argument("overwrite", True)
            raise UsageError(f"{folder}: holds a finished dataset.\n  Replace it with {replace}, or name another.")
    elif (folder / other).exists() or (folder.exists() and not (folder / PARTIAL).exists() and any(folder.iterdir())):
        raise UsageError(f"{folder}: holds files that are not ours.\n  Name a folder that is new or empty.")


def _is_rejected(folder: Path) -> bool:
    """Return True if a folder holds a prepared dataset that was rejected, which is of no use but for its quarantine."""
    try:
        fields = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    is_prepared = isinstance(fields, dict) and fields.get("format") == "dpo-data prepared"
    return is_prepared and fields.get("status") == "rejected"


def _acquire_lock(folder: Path) -> FileLock:
    lock = FileLock(folder / PARTIAL / _LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise UsageError(f"{folder}: another run is writing it.\n  Wait for it, or name another folder.") from error
    return lock


def _clear(partial: Path) -> None:
    """Remove the leftovers of a killed run."""
    for leftover in partial.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name != _LOCK:
            leftover.unlink()


def _publish(partial: Path, folder: Path, contents: Iterable[str], marker: str) -> None:
    (folder / marker).unlink(missing_ok=True)
    for name in contents:
        old = folder / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for new in sorted(partial.iterdir()):
        if new.name not in (marker, _LOCK):
            os.replace(new, folder / new.name)
    os.replace(partial / marker, folder / marker)
    shutil.rmtree(partial, ignore_errors=True)


class PreparedWriter:
    """Writes pairs, quarantined rows, card and manifest of a prepared folder.

    Attributes:
        folder: the scratch folder; whatever else is put there must be removed before `finish`.
    """

    def __init__(self, folder: Path, form: Form, schema: pa.Schema) -> None:
        self.folder = folder
        self._form = form
        self._schema = schema
        self._writers = {name: SplitWriter(folder, name, schema) for name in SPLITS}
        self._quarantine = QuarantineWriter(folder)
        self._hashes: dict[str, dict[str, str]] | None = None

    def add(self, split: str, batch: pa.RecordBatch | pa.Table) -> int:
        """Append pairs to a split, and return the position of the first of them there."""
        writer = self._writers[split]
        first = writer.rows
        writer.write_in_shards(batch)
        return first

    def quarantine(self, split: str, rows: Iterable[QuarantinedRow]) -> None:
        """Append rows of the raw files of a split to its quarantine."""
        self._quarantine.write(split, rows)

    def finish_splits(self) -> Callable[[RowPosition], str]:
        """Finish the shards, and return a function that looks up the origin of a row in them."""
        hashes = self._finished_splits()
        return origin_lookup(self.folder, {name: self._writers[name].entry(list(hashes[name])) for name in hashes})

    def finish(
        self, header: ManifestHeader, card: Callable[[Manifest], str], *, left_out: Mapping[str, int] | None = None
    ) -> Manifest:
        """Write the remaining files, the manifest last, and return the manifest.

        Args:
            header: all fields of the manifest but splits, columns and files.
            card: makes README.md from the manifest, whose `files` are not known yet.
            left_out: split to the number of raw rows that are in no pair.
        """
        left_out = left_out or {}
        hashes = self._finished_splits()
        self._quarantine.close()
        splits = {}
        for name, writer in self._writers.items():
            counts = {"quarantined": self._quarantine.rows[name], "left_out": left_out.get(name, 0)}
            if writer.rows or any(counts.values()):
                splits[name] = writer.entry(list(hashes.get(name, ())), **counts)
        fields: dict[str, Any] = {
            **dict(header),
            "splits": splits,
            "columns": column_types(self._schema),
            "content_hash": content_hash(
                self._form,
                column_types(self._schema),
                {name: list(hashes_of_split.values()) for name, hashes_of_split in hashes.items()},
            ),
        }
        draft = Manifest.model_construct(**fields, files={})
        (self.folder / "README.md").write_text(card(draft), encoding="utf-8")
        manifest = Manifest(**fields, files=finish_folder(self.folder, hashes))
        write_manifest(self.folder, manifest)
        return manifest

    def close(self) -> None:
        """Close the files, finished or not."""
        self._quarantine.close()
        for writer in self._writers.values():
            writer.end_shard()

    def _finished_splits(self) -> dict[str, dict[str, str]]:
        """Return split -> its Arrow files and their SHA-256, of the splits that have pairs."""
        if self._hashes is None:
            self._hashes = {name: writer.finish() for name, writer in self._writers.items() if writer.rows}
        return self._hashes


class SplitWriter:
    """Writes the Arrow files of one split as `datasets` would save them, a shard at a time.

    Attributes:
        split: name of the split.
        schema: of its shards.
        shard_rows: number of rows in each shard so far.
    """

    def __init__(self, folder: Path, split: str, schema: pa.Schema) -> None:
        self.split = split
        self.schema = schema
        self.shard_rows: list[int] = []
        self._folder = folder / split
        self._sink: Any = None
        self._writer: Any = None

    @property
    def rows(self) -> int:
        """Number of rows so far."""
        return sum(self.shard_rows)

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows to the current shard, opening one if there is none."""
        if self._writer is None:
            self._sink = pa.OSFile(str(self._next_shard(0)), "wb")
            self._writer = pa.ipc.new_stream(self._sink, self.schema)
        self._writer.write(batch)
        self.shard_rows[-1] += batch.num_rows

    def write_in_shards(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows; a shard is full at exactly `SHARD_ROWS`, whatever the sizes of the batches."""
        while batch.num_rows:
            part = batch.slice(0, SHARD_ROWS - (self.shard_rows[-1] if self._writer is not None else 0))
            if part.num_rows < batch.num_rows:
                # Arrow writes a slice with traces of the rows after it; the copy's bytes depend on its own rows alone.
                part = part.take(pa.array(range(part.num_rows)))
            self.write(part)
            batch = batch.slice(part.num_rows)
            if self.shard_rows[-1] == SHARD_ROWS:
                self.end_shard()

    def end_shard(self) -> None:
        """Finish the current shard, if there is one."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None

    def adopt_shard(self, shard: Path, rows: int) -> None:
        """Take over a finished shard from another folder: as a hard link where the file system can, else as a copy."""
        path = self._next_shard(rows)
        try:
            os.link(shard, path)
        except OSError:
            shutil.copyfile(shard, path)

    def finish(self) -> dict[str, str]:
        """Finish the split, and return its Arrow files, relative to the folder above it, with their SHA-256."""
        self.end_shard()
        count = len(self.shard_rows)
        names = [f"data-{index:05d}-of-{count:05d}.arrow" for index in range(count)]
        for index, name in enumerate(names):
            os.replace(self._folder / f"{index:05d}", self._folder / name)
        hashes = {name: hash_file(self._folder / name) for name in names}
        write_split_description(self._folder, self.split, self.schema, hashes)
        return {f"{self.split}/{name}": hash_ for name, hash_ in hashes.items()}

    def entry(self, shards: list[str], *, quarantined: int = 0, left_out: int = 0) -> SplitEntry:
        """Return the split's entry in a manifest."""
        return SplitEntry(
            pairs=self.rows, quarantined=quarantined, left_out=left_out, shards=shards, shard_rows=self.shard_rows
        )

    def _next_shard(self, rows: int) -> Path:
        self._folder.mkdir(exist_ok=True)
        self.shard_rows.append(rows)
        return self._folder / f"{len(self.shard_rows) - 1:05d}"


def write_split_description(folder: Path, split: str, schema: pa.Schema, hashes: Mapping[str, str]) -> None:
    """Write the two small files that `datasets.load_from_disk` reads next to the Arrow files of a split.

    Args:
        folder: of the split.
        split: its name.
        schema: of its Arrow files.
        hashes: name of each Arrow file to its SHA-256.
    """
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in hashes],
        # A content hash: datasets keys the results of `map` by it, so that a constant would mix up datasets.
        "_fingerprint": sha256("".join(hashes.values()).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {"citation": "", "description": "", "features": features(schema), "homepage": "", "license": ""}
    write_json(folder / "state.json", state)
    write_json(folder / "dataset_info.json", info)


def finish_folder(folder: Path, hashes: Mapping[str, Mapping[str, str]], **provenance: str) -> dict[str, FileEntry]:
    """Write dataset_dict.json and provenance.json, and return the entries of all files but provenance.json.

    Args:
        folder: the folder that is being built.
        hashes: split to its Arrow files and their SHA-256, as `SplitWriter.finish` returned them.
        provenance: further entries of provenance.json.
    """
    write_json(folder / "dataset_dict.json", {"splits": list(hashes)})
    known = {name: hash_ for of_split in hashes.values() for name, hash_ in of_split.items()}
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != _LOCK:
            name = path.relative_to(folder).as_posix()
            files[name] = FileEntry(sha256=known.get(name) or hash_file(path), size_bytes=path.stat().st_size)
    packages = ("dpo-data", "pyarrow", "pydantic", "transformers")
    run = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }
    write_json(folder / "provenance.json", run | provenance)
    return files


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON."""
    # A word of the command line that is not UTF-8 becomes the escape that JSON has for it.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
