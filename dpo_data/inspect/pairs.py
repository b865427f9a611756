"""A few pairs of a prepared folder, looked up by position, id or content."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.errors import PreparedError
from dpo_data.options import SPLITS, Form
from dpo_data.prepared.reader import Prepared
from dpo_data.records import ConversationalRow, TextRow, row_model

PairRow = TextRow | ConversationalRow


@dataclass(frozen=True, order=True)
class PairPosition:
    """Split of a pair and its index there, as in `dataset[split][index]`."""

    split: str
    index: int


@dataclass(frozen=True)
class PairAt:
    """A pair and its position.

    Attributes:
        split: train or test.
        index: position in the split, from 0, as in `dataset[split][index]`.
        row: the pair.
        stored: the same pair as one row of Arrow.
    """

    split: str
    index: int
    row: PairRow
    stored: pa.RecordBatch

    def _repr_html_(self) -> str:
        from dpo_data.reports.html.fragments import pair

        return pair(self)


def parse_rows(form: Form, stored: pa.RecordBatch) -> list[PairRow]:
    """Return Arrow rows as pairs, without kept metadata columns."""
    model = row_model(form)
    columns = stored.select([name for name in stored.schema.names if name in model.model_fields])
    return [model.model_validate(row) for row in columns.to_pylist()]


def matching_pairs(prepared: Prepared, matches: Callable[[pa.RecordBatch], pa.BooleanArray]) -> Iterator[PairAt]:
    """Yield the pairs of the rows that `matches` marks in a batch, in order."""
    for split in prepared.split_names:
        start = 0
        for batch in prepared.batches(split):
            for row in np.flatnonzero(matches(batch).to_numpy(zero_copy_only=False)).tolist():
                yield _pair_at(prepared, split, start + row, batch.slice(row, 1))
            start += batch.num_rows


def _pair_at(prepared: Prepared, split: str, index: int, stored: pa.RecordBatch) -> PairAt:
    return PairAt(split, index, parse_rows(prepared.manifest.form, stored)[0], stored)


def pair_at(prepared: Prepared, split: str, index: int) -> PairAt:
    """Return the pair at an index of a split, from 0.

    Raises: PreparedError: the split has fewer pairs.
    """
    position = PairPosition(split, index)
    return pairs_at(prepared, [position])[position]


def pairs_at(prepared: Prepared, positions: Collection[PairPosition]) -> dict[PairPosition, PairAt]:
    """Return the pairs at some positions; only their rows are parsed.

    Raises: PreparedError: a split has fewer pairs.
    """
    found: dict[PairPosition, PairAt] = {}
    for split in sorted({position.split for position in positions}):
        wanted = sorted({position.index for position in positions if position.split == split}, reverse=True)
        start = 0
        for batch in prepared.batches(split):
            while wanted and wanted[-1] < start + batch.num_rows:
                index = wanted.pop()
                found[PairPosition(split, index)] = _pair_at(prepared, split, index, batch.slice(index - start, 1))
            if not wanted:
                break
            start += batch.num_rows
        if wanted:
            raise PreparedError(
                f"{prepared.path}: {split} ends before row {wanted[-1]}.\n  Find out more: dpo-data validate FOLDER."
            )
    return found


def positions_of(ids: Collection[str], keys: RowKeyStore) -> dict[str, PairPosition]:
    """Return the position of each pair id, as far as there are pairs with it; of equal pairs the first.

    Args:
        ids: pair ids.
        keys: the keys of all pairs.
    """
    wanted = {bytes.fromhex(id_) for id_ in ids}
    found: dict[str, PairPosition] = {}
    for bucket in keys.buckets() if wanted else ():
        for row in np.flatnonzero(np.isin(bucket["pair"], np.array(sorted(wanted), "V16"))):
            key = bucket[row]
            position = PairPosition(SPLITS[int(key["split"])], int(key["index"]))
            found.setdefault(key["pair"].tobytes().hex(), position)
    return found


def pairs_with_id(prepared: Prepared, prefix: str) -> Iterator[PairAt]:
    """Yield the pairs whose id starts with `prefix`."""
    return matching_pairs(prepared, lambda rows: pc.starts_with(rows.column("id"), prefix))


def pairs_by_id(prepared: Prepared, ids: Collection[str]) -> dict[str, PairAt]:
    """Return the pairs with these ids, as far as there are any; of equal pairs the first."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, PairAt] = {}
    for pair in matching_pairs(prepared, lambda rows: pc.is_in(rows.column("id"), wanted)):
        found.setdefault(pair.row.id, pair)
    return found
