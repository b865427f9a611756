"""Manifests of older versions, turned into those of the present one."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_data.prepared.files import is_file_name
from dpo_data.prepared.manifest import PREPARED_VERSION, content_hash
from dpo_data.prepared.schema import column_types

#: Rows in each shard of version 1 but the last of a split.
_V1_SHARD_ROWS = 50_000


def upgrade_v1(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the manifest of version 2 for a prepared folder of version 1.

    Version 2 calls the license by that name, and records the rows of each shard, the columns, and a hash of the
    content. The files are the same.
    """
    splits = {}
    for name, split in manifest["splits"].items():
        full, last = divmod(split["pairs"], _V1_SHARD_ROWS)
        splits[name] = {**split, "shard_rows": [_V1_SHARD_ROWS] * full + ([last] if last else [])}
    source = {("license" if name == "licence" else name): value for name, value in manifest["source"].items()}
    shards = {name: split["shards"] for name, split in splits.items()}
    columns = _columns(folder, [shard for names in shards.values() for shard in names])
    hashes = {name: [manifest["files"][shard]["sha256"] for shard in names] for name, names in shards.items()}
    return {
        **manifest,
        "version": PREPARED_VERSION,
        "source": source,
        "splits": splits,
        "columns": columns,
        "content_hash": content_hash(manifest["form"], columns, hashes),
    }


def _columns(folder: Path, shards: list[str]) -> dict[str, str]:
    """Return the columns of the first shard, or none if it is damaged, which those who read it find out."""
    if not shards or not is_file_name(shards[0]):
        return {}
    try:
        with pa.memory_map(str(folder / shards[0])) as file:
            return column_types(pa.ipc.open_stream(file).schema)
    except (OSError, pa.ArrowException):
        return {}
