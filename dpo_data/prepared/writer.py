"""Write a folder so that it appears only when it is complete."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_data.errors import Interrupted, UsageError, writing
from dpo_data.prepared.files import hash_file, is_utf8
from dpo_data.prepared.manifest import MANIFEST, PARTIAL, FileEntry, Manifest, QuarantinedRow, TokensManifest
from dpo_data.prepared.schema import _features

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are then the user's to avoid
    fcntl = None

#: What a prepared folder may hold besides its manifest and its token caches, which stay valid for unchanged shards.
CONTENTS = (
    "train",
    "test",
    "quarantine",
    "dataset_dict.json",
    "README.md",
    "provenance.json",
    "report.json",
    "report.html",
)


def _write_quarantine(file: object, rows: Iterable[QuarantinedRow]) -> None:
    for row in rows:
        file.write(json.dumps(row.model_dump(), ensure_ascii=False) + "\n")  # type: ignore[attr-defined]


#: Rows of one Arrow file; a token cache reuses the shards that did not change.
SHARD_ROWS = 50_000


@contextmanager
def building(folder: Path, *, overwrite: bool, contents: Sequence[str]) -> Iterator[Path]:
    """A scratch folder that becomes `folder` when the block ends without an error, and leaves no trace otherwise.

    Args:
        folder: new, empty, unfinished, or (with `overwrite`) finished before.
        overwrite: replace a finished folder; what stands in it stays whole until the new one is.
        contents: the names that a finished folder of this kind may have; with `overwrite` the old ones go.

    Raises:
        UsageError: the folder holds something else, or something finished, or another run is writing it, or the
            system refuses (permission, full disk).
        Interrupted: Ctrl-C in the block.
    """
    partial = folder / PARTIAL
    existed = folder.exists()
    with writing(folder):
        _refuse_target(folder, overwrite=overwrite)
        partial.mkdir(parents=True, exist_ok=True)
        lock = (partial / "lock").open("w")
    try:
        _lock(lock, folder)
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
                raise Interrupted(f"{folder}: stopped; nothing of this run is left there.") from error
            raise
        # Stopped from here on, `.partial` stays and marks the folder as unfinished.
        with writing(folder):
            _publish(partial, folder, contents)
    finally:
        lock.close()


def _refuse_target(folder: Path, *, overwrite: bool) -> None:
    if not is_utf8(folder):
        raise UsageError(f"{folder}: the name is not UTF-8, and Arrow opens no other.\n  Name another folder.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file.\n  Name a folder that is new or empty.")
    if (folder / MANIFEST).exists():
        if not overwrite:
            raise UsageError(f"{folder}: holds a finished data set.\n  Replace it with --overwrite, or name another.")
    elif folder.exists() and not (folder / PARTIAL).exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: holds files that are not ours.\n  Name a folder that is new or empty.")


def _lock(lock: Any, folder: Path) -> None:
    if fcntl is None:
        return  # type: ignore[unreachable]
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"{folder}: another run is writing it.\n  Wait for it, or name another folder.") from error


def _clear(partial: Path) -> None:
    """Remove what a killed run left."""
    for leftover in partial.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        elif leftover.name != "lock":
            leftover.unlink()


def _publish(partial: Path, folder: Path, contents: Sequence[str]) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in contents:
        old = folder / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    for new in sorted(partial.iterdir()):
        if new.name not in (MANIFEST, "lock"):
            os.replace(new, folder / new.name)
    os.replace(partial / MANIFEST, folder / MANIFEST)
    shutil.rmtree(partial, ignore_errors=True)


class SplitWriter:
    """Writes the Arrow files of one split as `datasets` would save them, a shard at a time."""

    def __init__(self, folder: Path, split: str, schema: pa.Schema) -> None:
        self.split = split
        self.rows = 0
        self._folder = folder / split
        self._schema = schema
        self._shards = 0
        self._shard_rows = 0
        self._sink: Any = None
        self._writer: Any = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows to the shard at hand, opening one if there is none."""
        if self._writer is None:
            self._sink = pa.OSFile(str(self._next_shard()), "wb")
            self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._writer.write_batch(batch)
        self._shard_rows += batch.num_rows
        self.rows += batch.num_rows

    def write_in_shards(self, batch: pa.RecordBatch) -> None:
        """Append rows; a shard is full at exactly `SHARD_ROWS`, whatever the sizes of the batches."""
        while batch.num_rows:
            part = batch.slice(0, SHARD_ROWS - self._shard_rows)
            if part.num_rows < batch.num_rows:
                # Arrow writes a slice with traces of the rows after it; the copy's bytes depend on its own rows alone.
                part = part.take(pa.array(range(part.num_rows)))
            self.write(part)
            batch = batch.slice(part.num_rows)
            if self._shard_rows == SHARD_ROWS:
                self.end_shard()

    def end_shard(self) -> None:
        """Finish the shard at hand."""
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None
            self._shard_rows = 0

    def adopt_shard(self, shard: Path, rows: int) -> None:
        """Take over a finished shard from elsewhere: linked where the file system can, else copied."""
        try:
            os.link(shard, self._next_shard())
        except OSError:
            shutil.copyfile(shard, self._folder / f"{self._shards - 1:05d}")
        self.rows += rows

    def close(self) -> dict[str, str]:
        """Finish the split and return its Arrow files, relative to the folder above it, with their SHA-256."""
        self.end_shard()
        names = [f"data-{index:05d}-of-{self._shards:05d}.arrow" for index in range(self._shards)]
        for index, name in enumerate(names):
            os.replace(self._folder / f"{index:05d}", self._folder / name)
        hashes = {name: hash_file(self._folder / name) for name in names}
        write_split_description(self._folder, self.split, self._schema, hashes)
        return {f"{self.split}/{name}": hash_ for name, hash_ in hashes.items()}

    def _next_shard(self) -> Path:
        self._folder.mkdir(exist_ok=True)
        self._shards += 1
        return self._folder / f"{self._shards - 1:05d}"


def write_split_description(folder: Path, split: str, schema: pa.Schema, hashes: Mapping[str, str]) -> None:
    """Write the two small files that `datasets.load_from_disk` reads beside the Arrow files of a split.

    Args:
        hashes: name of each Arrow file to its SHA-256.
    """
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in hashes],
        # A content hash: datasets keys the results of `map` by it, so that a constant would mix up data sets.
        "_fingerprint": sha256("".join(hashes.values()).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    info = {"citation": "", "description": "", "features": _features(schema), "homepage": "", "license": ""}
    write_json(folder / "state.json", state)
    write_json(folder / "dataset_info.json", info)


def finish_folder(folder: Path, hashes: Mapping[str, Mapping[str, str]]) -> dict[str, FileEntry]:
    """Write dataset_dict.json and provenance.json, and return the entries of all files but provenance.json.

    Args:
        hashes: split to its Arrow files and their SHA-256, as `SplitWriter.close` returned them.
    """
    write_json(folder / "dataset_dict.json", {"splits": list(hashes)})
    known = {name: hash_ for of_split in hashes.values() for name, hash_ in of_split.items()}
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "lock":
            name = path.relative_to(folder).as_posix()
            files[name] = FileEntry(sha256=known.get(name) or hash_file(path), size_bytes=path.stat().st_size)
    packages = ("dpo-data", "pyarrow", "pydantic", "transformers")
    provenance = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": sys.argv,
        "working_directory": os.getcwd(),
    }
    write_json(folder / "provenance.json", provenance)
    return files


def write_manifest(folder: Path, manifest: Manifest | TokensManifest) -> None:
    """Write the manifest; `building` moves it into place last."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON."""
    # A word of the command line that is not UTF-8 becomes the escape that JSON has for it.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
