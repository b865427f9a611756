"""Readers of prepared folders: open, read and verify them."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dpo_data.checks.row_keys import RowPosition
from dpo_data.errors import PreparedError, argument, first_line, reading
from dpo_data.options import SPLITS
from dpo_data.prepared.files import MANIFEST, PARTIAL, fast_hash, hash_file
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
        return load_dataset(self.path, {split: entry.shards for split, entry in self.manifest.splits.items()})

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """Yield the pairs of one split, in order, a batch at a time; memory-mapped.

        Raises: PreparedError: a shard is missing or damaged.
        """
        for shard in self.manifest.splits[split].shards:
            refuse_damaged(self.path, damaged_files(self.path, {shard: self.manifest.files[shard]}))
            yield from read_shard(self.path / shard)

    def require_undamaged_shards(self) -> None:
        """Raise PreparedError if a shard is missing or damaged."""
        shards = [shard for split in self.manifest.splits.values() for shard in split.shards]
        refuse_damaged(self.path, damaged_files(self.path, {shard: self.manifest.files[shard] for shard in shards}))

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


def damaged_files(
    folder: Path, files: Mapping[str, FileEntry], fast_hashes: Mapping[str, str | None] | None = None
) -> dict[str, str]:
    """Return the files that are missing or changed, each with a description of the damage.

    Args:
        folder: a prepared folder or a token cache.
        files: of its manifest.
        fast_hashes: file to its `fast_hash`, which is compared instead of its SHA-256.
    """
    fast_hashes = fast_hashes or {}
    damaged = {}
    for name, entry in files.items():
        path = folder / name
        with reading(path):
            if not path.is_file():
                damaged[name] = "is missing"
            elif path.stat().st_size != entry.size_bytes:
                damaged[name] = f"has {path.stat().st_size:,} bytes, not {entry.size_bytes:,}"
            elif name in fast_hashes:
                if fast_hash(path) != fast_hashes[name]:
                    damaged[name] = "has other bytes than when it was written (XXH3 differs)"
            elif hash_file(path) != entry.sha256:
                damaged[name] = "has other bytes than when it was written (SHA-256 differs)"
    return damaged


def refuse_damaged(folder: Path, damaged: Mapping[str, str], remedy: str | None = None) -> None:
    """Raise PreparedError for the first of the damaged files of a folder, if there are any.

    Args:
        folder: a prepared folder or a token cache.
        damaged: file to what is wrong with it.
        remedy: what to do; None for the usual of a prepared folder.
    """
    for name, damage in damaged.items():
        remedy = remedy or (
            f"Find out more: dpo-data validate {folder}; then convert again with {argument('overwrite', True)}."
        )
        raise PreparedError(f"{folder / name}: {damage}.\n  {remedy}")


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


def load_dataset(path: Path, shards: Mapping[str, Sequence[str]]) -> "DatasetDict":
    """Return the splits of a prepared folder or a token cache, memory-mapped.

    Args:
        path: the folder.
        shards: split to its Arrow files, as the manifest names them: `datasets` reads what its own files name.

    Raises: PreparedError: a file is missing or damaged, or the files of `datasets` name others than the manifest.
    """
    import datasets

    for split, names in shards.items():
        state = path / split / "state.json"
        if names and _shards_of_state(state) != [PurePosixPath(name).name for name in names]:
            raise PreparedError(f"{state}: is damaged: it does not name the files that the manifest names.")
    splits = path / "dataset_dict.json"
    if _read_json(splits).get("splits") != [split for split, names in shards.items() if names]:
        raise PreparedError(f"{splits}: is damaged: it does not name the splits that the manifest names.")
    try:
        return datasets.DatasetDict.load_from_disk(str(path))
    except (OSError, pa.ArrowException) as error:
        raise PreparedError(f"{path}: cannot be loaded: {error}.") from error


def _shards_of_state(state: Path) -> list[str] | None:
    """Return the names of the Arrow files in a state.json; None if it has none."""
    files = _read_json(state).get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        return None
    return [str(file.get("filename")) for file in files]


def _read_json(path: Path) -> dict[str, Any]:
    """Return a small JSON object.

    Raises: PreparedError: it cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PreparedError(f"{path}: is damaged or missing: {first_line(error)}.") from error
    return content if isinstance(content, dict) else {}


def _unreadable(path: Path, error: Exception) -> PreparedError:
    reason = str(error).rstrip(".")
    return PreparedError(f"{path}: cannot be read: {reason}.\n  Find out more: dpo-data validate FOLDER.")
