"""Rows that a step selects from, read by ranges, so that workers read what they need themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dpo_data.engine import ordered_map
from dpo_data.errors import PreparedError
from dpo_data.options import Form, Progress, silent
from dpo_data.prepared.columns import numbers_column
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.reader import Prepared, read_shard
from dpo_data.prepared.schema import DATASET, TAGS, PairColumns, column_types, pair_schema

#: Rows of a range, and of each batch that a step writes.
RANGE_ROWS = 1000

Positions = NDArray[np.int64]
Job = TypeVar("Job")
Result = TypeVar("Result")


class Range(NamedTuple):
    """Consecutive rows of one split; `stop` is the position after the last one."""

    split: str
    start: int
    stop: int


class Rows(Protocol):
    """Rows in splits; can be sent to worker processes."""

    @property
    def form(self) -> Form:
        """The form of the pairs."""

    @property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Split to its number of rows."""

    def read(self, range_: Range) -> pa.Table:
        """Return the rows of a range, each column in one piece."""


class Shard(NamedTuple):
    """An Arrow file; `version` changes whenever another file takes its name."""

    path: str
    version: str
    rows: int


@dataclass(frozen=True)
class FolderRows:
    """The rows of a prepared folder, in its order.

    Attributes:
        form: of the pairs.
        columns: those that not every folder has.
        shards: split to its Arrow files.
    """

    form: Form
    columns: PairColumns
    shards: Mapping[str, Sequence[Shard]]

    @classmethod
    def of(cls, prepared: Prepared) -> "FolderRows":
        """Return the rows of an open folder.

        Raises: PreparedError: the folder has a column that this program does not know.
        """
        manifest = prepared.manifest
        known = column_types(pair_schema(manifest.form, columns_of(manifest)))
        if known != manifest.columns:
            unknown = sorted({*manifest.columns.items()} ^ {*known.items()})[0][0]
            raise PreparedError(
                f"{prepared.path}: this program does not know its column {unknown}.\n"
                "  Upgrade dpo-data, or convert the data again."
            )
        shards = {
            split: [
                Shard(str(prepared.path / name), manifest.files[name].sha256, rows)
                for name, rows in zip(entry.shards, entry.shard_rows, strict=True)
            ]
            for split, entry in manifest.splits.items()
        }
        return cls(manifest.form, columns_of(manifest), shards)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return pair_schema(self.form, self.columns)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Split to its number of rows."""
        return {split: sum(shard.rows for shard in shards) for split, shards in self.shards.items()}

    def read(self, range_: Range) -> pa.Table:
        """Return the rows of a range, each column in one piece."""
        return joined([self.read_positions(range_.split, np.arange(range_.start, range_.stop))], self.schema)

    def read_positions(self, split: str, positions: Positions) -> pa.Table:
        """Return the rows at ascending positions of a split."""
        parts, start = [], 0
        for shard in self.shards[split]:
            first, last = np.searchsorted(positions, [start, start + shard.rows])
            if first < last:
                wanted = positions[first:last] - start
                table = _open_shard(shard.path, shard.version)
                part = table.slice(wanted[0], wanted[-1] - wanted[0] + 1)
                if len(wanted) < part.num_rows:
                    part = part.combine_chunks().take(numbers_column(wanted - wanted[0], pa.int64()))
                parts.append(part)
            start += shard.rows
        return pa.concat_tables(parts) if parts else self.schema.empty_table()


@dataclass(frozen=True)
class ChangedRows:
    """Rows some of which are replaced.

    Attributes:
        rows: all rows.
        columns: those that not every folder has, of the rows after the change.
        positions: split to the positions of the replaced rows, ascending.
        shards: split to the Arrow file of the new rows, in the same order.
    """

    rows: FolderRows
    columns: PairColumns
    positions: Mapping[str, Positions]
    shards: Mapping[str, Shard]

    @property
    def form(self) -> Form:
        """The form of the pairs."""
        return self.rows.form

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the rows."""
        return pair_schema(self.form, self.columns)

    @property
    def counts(self) -> Mapping[str, int]:
        """Split to its number of rows."""
        return self.rows.counts

    def read(self, range_: Range) -> pa.Table:
        """Return the rows of a range, each column in one piece."""
        table = conform(self.rows.read(range_), self.schema)
        positions = self.positions.get(range_.split, np.empty(0, np.int64))
        first, last = np.searchsorted(positions, [range_.start, range_.stop])
        if first == last:
            return table
        order = np.arange(table.num_rows)
        order[positions[first:last] - range_.start] = table.num_rows + np.arange(last - first)
        changed = _open_shard(*self.shards[range_.split][:2]).slice(first, last - first)
        return joined([table, changed], self.schema).take(numbers_column(order, pa.int64()))


def columns_of(manifest: Manifest) -> PairColumns:
    """Return the columns of a folder that not every folder has."""
    kept = {name: column.type for name, column in manifest.kept_columns.items()}
    message = manifest.columns.get("prompt", "")
    return PairColumns(
        scores="margin" in manifest.columns,
        tools="tools" in manifest.columns,
        template_arguments="chat_template_kwargs" in manifest.columns,
        reasoning=tuple(name for name in ("reasoning_content", "thinking") if f"{name}:" in message),
        kept=kept,
        steps=tuple(name for name in (DATASET, TAGS) if name in manifest.columns and name not in kept),
    )


def ranges(rows: Rows) -> Iterator[Range]:
    """Yield the ranges of all rows, split by split."""
    for split, count in rows.counts.items():
        for start in range(0, count, RANGE_ROWS):
            yield Range(split, start, min(start + RANGE_ROWS, count))


def map_ranges(
    function: Callable[[pa.Table, Job], Result],
    rows: Rows,
    job: Job,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> Iterator[tuple[Range, Result]]:
    """Yield each range with the result of `function(its rows, job)`, in order.

    Args:
        function: pure, and importable by name.
        rows: all rows.
        job: what all ranges share; sent to worker processes with each range.
        workers: number of processes.
        progress: called with the share of the rows, and their number.
    """
    total, done = sum(rows.counts.values()), 0
    for range_, result in ordered_map(_map_range, ranges(rows), (function, rows, job), workers=workers):
        done += range_.stop - range_.start
        progress(done / total, done)
        yield range_, result


def _map_range(range_: Range, job: tuple[Callable[[pa.Table, Any], Any], Rows, Any]) -> tuple[Range, Any]:
    function, rows, shared = job
    return range_, function(rows.read(range_), shared)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema; those that it lacks, also in its messages, are null."""
    if table.schema.names == schema.names and table.schema.types == schema.types:
        return pa.Table.from_arrays(table.columns, schema=schema)
    columns = []
    for field in schema:
        if field.name not in table.schema.names:
            columns.append(pa.nulls(table.num_rows, field.type))
        elif table.schema.field(field.name).type == field.type:
            columns.append(table.column(field.name))
        else:
            chunks = table.column(field.name).chunks
            columns.append(pa.chunked_array([_with_fields(chunk, field.type) for chunk in chunks], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def joined(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return the rows of tables in one, each column in one piece, with the columns of a schema."""
    return pa.concat_tables([conform(table, schema) for table in tables]).combine_chunks()


def keys_column(table: pa.Table, name: str) -> NDArray[np.void]:
    """Return a column of 128-bit hashes in hexadecimal, (N,), as 16 bytes each."""
    return np.frombuffer(bytes.fromhex("".join(table.column(name).to_pylist())), "V16")


def _with_fields(messages: pa.ListArray, type_: pa.DataType) -> pa.ListArray:
    """Return messages with all fields of a type; those that they lack are null."""
    structs = messages.flatten()
    names = [field.name for field in structs.type]
    children = [
        structs.field(field.name) if field.name in names else pa.nulls(len(structs), field.type)
        for field in type_.value_type
    ]
    offsets = np.zeros(len(messages) + 1, np.int32)
    np.cumsum(messages.value_lengths().to_numpy(zero_copy_only=False), out=offsets[1:])
    values = pa.StructArray.from_arrays(children, fields=list(type_.value_type))
    return pa.ListArray.from_arrays(numbers_column(offsets, pa.int32()), values, type=type_)


@lru_cache(maxsize=16)
def _open_shard(path: str, version: str) -> pa.Table:
    """Return an Arrow file, memory-mapped; the version keeps a replaced file of the same name apart."""
    return pa.Table.from_batches(list(read_shard(Path(path))))
