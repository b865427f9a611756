"""Readers of prepared folders: open, read and verify them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from dpo_data.checks.row_keys import RowPosition
from dpo_data.errors import PreparedError, argument, reading
from dpo_data.options import SPLITS
from dpo_data.prepared.files import MANIFEST, PARTIAL, hash_file
from dpo_data.prepared.manifest import FileEntry, Manifest, SplitEntry, load_manifest
from dpo_data.prepared.quarantine import QuarantinedRow, read_quarantine
from dpo_data.prepared.upgrade import upgrade_v1

if TYPE_CHECKING:
    from datasets import DatasetDict


@dataclass(frozen=True)
class Prepared:
    """A finished prepared folder."""

    path: Path
    manifest: Manifest

    @property
    def split_names(self) -> list[str]:
        """Names of the splits; one may have no pairs if its rows were quarantined or left out."""
        return list(self.manifest.splits)

    def dataset(self) -> "DatasetDict":
        """Return the pairs, memory-mapped."""
        return load_dataset(self.path)

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Yield the pairs of one split, in order, a batch at a time; memory-mapped."""
        for shard in self.manifest.splits[split].shards:
            yield from read_shard(self.path / shard)

    def quarantined(self) -> Iterator[QuarantinedRow]:
        """Yield the quarantined rows."""
        return read_quarantine(self.path, self.manifest.files)


def open_prepared(path: str | Path) -> Prepared:
    """Return a prepared folder whose manifest says that it is complete.

    Raises:
        PreparedError: the folder is unfinished, rejected, of a newer version, or not a prepared folder; or its
            manifest does not add up.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest.status == "rejected":
        raise PreparedError(
            f"{path}: was rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine, more "
            f"than {argument('max_invalid', format(manifest.options.max_invalid, '.3g'))} allows.\n"
            f"  See {path / 'quarantine'} for the reasons; fix the rows, or raise {argument('max_invalid')}, and "
            "convert again."
        )
    return Prepared(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a prepared folder, also of a rejected one.

    Raises: PreparedError: as `open_prepared`, except for rejected folders.
    """
    return load_manifest(path, Manifest, "dpo-data convert SOURCE --output", upgrade_v1)


def is_prepared(path: Path) -> bool:
    """Return True if a folder is a prepared one: complete, rejected or unfinished."""
    return (path / MANIFEST).is_file() or (path / PARTIAL).is_dir()


def damaged_files(folder: Path, files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Return the files that are missing or changed, each with a description of the damage.

    Args:
        folder: a prepared folder or a token cache.
        files: of its manifest.
    """
    damaged = {}
    for name, entry in files.items():
        path = folder / name
        with reading(path):
            if not path.is_file():
                damaged[name] = "is missing"
            elif path.stat().st_size != entry.size_bytes:
                damaged[name] = f"has {path.stat().st_size:,} bytes, not {entry.size_bytes:,}"
            elif hash_file(path) != entry.sha256:
                damaged[name] = "has other bytes than when it was written (SHA-256 differs)"
    return damaged


def read_shard(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an Arrow file, memory-mapped.

    Raises: PreparedError: the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            yield from pa.ipc.open_stream(file)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def shard_schema(path: Path) -> pa.Schema:
    """Return the schema of an Arrow file.

    Raises: PreparedError: the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_stream(file).schema
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def origin_lookup(folder: Path, splits: Mapping[str, SplitEntry]) -> Callable[[RowPosition], str]:
    """Return a function that looks up the origin of a row.

    Args:
        folder: the folder of the shards.
        splits: the shards of each split, with their rows.
    """
    return column_lookup(folder, splits, "origin")


def column_lookup(folder: Path, splits: Mapping[str, SplitEntry], column: str) -> Callable[[RowPosition], str]:
    """Return a function that looks up a text column of a row; see `origin_lookup`."""
    columns: dict[str, pa.ChunkedArray] = {}

    def value_of(place: RowPosition) -> str:
        shard, row = splits[SPLITS[place.split]].locate(place.position)
        if shard not in columns:
            with pa.memory_map(str(folder / shard)) as file:
                columns[shard] = pa.ipc.open_stream(file).read_all().column(column)
        return str(columns[shard][row])

    return value_of


def load_dataset(path: Path) -> "DatasetDict":
    """Return the splits of a prepared folder or a token cache, memory-mapped.

    Raises: PreparedError: a file is missing or damaged.
    """
    import datasets

    try:
        return datasets.DatasetDict.load_from_disk(str(path))
    except (OSError, pa.ArrowException) as error:
        raise PreparedError(f"{path}: cannot be loaded: {error}.") from error


def _unreadable(path: Path, error: Exception) -> PreparedError:
    reason = str(error).rstrip(".")
    return PreparedError(f"{path}: cannot be read: {reason}.\n  Find out more: dpo-data validate FOLDER.")
