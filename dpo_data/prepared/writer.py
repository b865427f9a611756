"""Writers of prepared folders and of the splits of token caches."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from dpo_data.checks.row_keys import RowPosition
from dpo_data.escapes import without_secrets
from dpo_data.options import SPLITS, Form
from dpo_data.prepared.files import LOCK, hash_file
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

#: Rows in each Arrow file of a split but the last; token caches reuse the shards that did not change.
SHARD_ROWS = 50_000


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
        self,
        header: ManifestHeader,
        card: Callable[[Manifest], str],
        *,
        left_out: Mapping[str, int] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write the remaining files, the manifest last, and return the manifest.

        Args:
            header: all fields of the manifest but splits, columns and files.
            card: makes README.md from the manifest, whose `files` are not known yet.
            left_out: split to the number of raw rows, or of a step's pairs, that are in no pair.
            provenance: further entries of provenance.json.
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
        manifest = Manifest(**fields, files=finish_folder(self.folder, hashes, **(provenance or {})))
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


def finish_folder(folder: Path, hashes: Mapping[str, Mapping[str, str]], **provenance: Any) -> dict[str, FileEntry]:
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
        if path.is_file() and path.name != LOCK:
            name = path.relative_to(folder).as_posix()
            files[name] = FileEntry(sha256=known.get(name) or hash_file(path), size_bytes=path.stat().st_size)
    packages = ("dpo-data", "pyarrow", "pydantic", "transformers")
    run = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "command": [without_secrets(word) for word in sys.argv],
        "working_directory": os.getcwd(),
    }
    write_json(folder / "provenance.json", run | provenance)
    return files


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON."""
    # A word of the command line that is not UTF-8 becomes the escape that JSON has for it.
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")
