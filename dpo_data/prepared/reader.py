"""Open, read and verify prepared folders and token caches."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pydantic import ValidationError

from dpo_data.checks.row_keys import RowPosition
from dpo_data.errors import PreparedError, reading
from dpo_data.options import SPLITS
from dpo_data.prepared.files import hash_file, is_utf8
from dpo_data.prepared.manifest import MANIFEST, PARTIAL, AnyManifest, Manifest, TokensManifest
from dpo_data.prepared.writer import SHARD_ROWS

if TYPE_CHECKING:
    from datasets import DatasetDict


def origins_in(folder: Path, shards: Mapping[str, Sequence[str]]) -> Callable[[RowPosition], str]:
    """A function that looks up the origin of a row in the shards of `folder`, split to files."""

    def origin_of(place: RowPosition) -> str:
        shard, row = divmod(place.position, SHARD_ROWS)
        with pa.memory_map(str(folder / shards[SPLITS[place.split]][shard])) as file:
            return str(pa.ipc.open_stream(file).read_all().column("origin")[row])

    return origin_of


@dataclass(frozen=True)
class Prepared:
    """A finished prepared folder."""

    path: Path
    manifest: Manifest

    @property
    def split_names(self) -> list[str]:
        """The splits that have pairs."""
        return list(self.manifest.splits)

    def dataset(self) -> "DatasetDict":
        """The pairs, memory-mapped."""
        return _load_dataset(self.path)

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """The pairs of one split, in order, a batch at a time; memory-mapped."""
        for shard in self.manifest.splits[split].shards:
            yield from read_shard(self.path / shard)


@dataclass(frozen=True)
class TokenCache:
    """A finished token cache; `hit` says that it was there before."""

    path: Path
    manifest: TokensManifest
    hit: bool = field(default=True, compare=False)

    def dataset(self) -> "DatasetDict":
        """The token ids, memory-mapped."""
        return _load_dataset(self.path)


def open_prepared(path: str | Path) -> Prepared:
    """A prepared folder, once its manifest says that it is whole.

    Raises: PreparedError: unfinished, rejected, of an unknown version, or no prepared folder at all.
    """
    path = Path(path)
    manifest = _read_manifest(path, Manifest, "dpo-data convert SOURCE --output")
    if manifest.status == "rejected":
        raise PreparedError(
            f"{path}: was rejected: {manifest.quarantined:,} of {manifest.rows_read:,} rows are in quarantine, more "
            f"than --max-invalid {manifest.options.max_invalid:.3g} allows.\n"
            f"  See {path / 'quarantine'} for the reasons; mend the rows or raise --max-invalid, and convert again."
        )
    return Prepared(path, manifest)


def open_tokens(path: str | Path) -> TokenCache:
    """A token cache, once its manifest says that it is whole.

    Raises: PreparedError: unfinished, of an unknown version, or no token cache at all.
    """
    path = Path(path)
    return TokenCache(path, _read_manifest(path, TokensManifest, "dpo-data tokenize"))


def read_manifest(path: Path) -> Manifest:
    """The manifest of a prepared folder, rejected ones too.

    Raises: PreparedError: as `open_prepared`, save for rejected folders.
    """
    return _read_manifest(path, Manifest, "dpo-data convert SOURCE --output")


def is_prepared(path: Path) -> bool:
    """Whether a folder is meant to be a prepared one: whole, rejected or unfinished."""
    return (path / MANIFEST).is_file() or (path / PARTIAL).is_dir()


def damaged_files(folder: Path, manifest: Manifest | TokensManifest) -> dict[str, str]:
    """Files of the manifest that are missing or changed, each with what is wrong with it."""
    damaged = {}
    for name, entry in manifest.files.items():
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
    """The batches of an Arrow file, memory-mapped.

    Raises: PreparedError: the file is missing or damaged.
    """
    try:
        with pa.memory_map(str(path)) as file:
            yield from pa.ipc.open_stream(file)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).rstrip(".")
        raise PreparedError(f"{path}: cannot be read: {reason}.\n  Find out more: dpo-data validate FOLDER.") from error


def _read_manifest(path: Path, model: type[AnyManifest], command: str) -> AnyManifest:
    file = path / MANIFEST
    kind = model.model_fields["format"].default
    if not is_utf8(path):
        raise PreparedError(f"{path}: the name is not UTF-8, and Arrow opens no other.\n  Rename the folder.")
    if not path.is_dir():
        raise PreparedError(f"{path}: there is no such folder.\n  Make it: {command} {path}.")
    if not file.is_file():
        if (path / PARTIAL).is_dir():
            raise PreparedError(f"{path}: is unfinished: a run was stopped.\n  Run it again: {command} {path}.")
        raise PreparedError(f"{path}: is no folder of {kind}: it has no {MANIFEST}.\n  Make one: {command} FOLDER.")
    with reading(file):
        content = file.read_bytes()
    try:
        found = json.loads(content)
        if isinstance(found, Mapping) and found.get("format") == kind and found.get("version") != 1:
            raise PreparedError(f"{path}: has format version {found.get('version')}; this program reads version 1.")
        return model.model_validate_json(content)
    except (ValueError, ValidationError) as error:
        raise PreparedError(f"{file}: is no manifest of {kind}, or damaged.\n  Make it again: {command}.") from error


def _load_dataset(path: Path) -> "DatasetDict":
    import datasets

    try:
        return datasets.DatasetDict.load_from_disk(str(path))
    except (OSError, pa.ArrowException) as error:
        raise PreparedError(f"{path}: cannot be loaded: {error}.") from error
