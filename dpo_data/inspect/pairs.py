"""One pair of a prepared folder, by position, id or origin."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpo_data.errors import PreparedError
from dpo_data.prepared.reader import Prepared
from dpo_data.records import ConversationalRow, TextRow


@dataclass(frozen=True)
class PairAt:
    """A pair, and where it stands.

    Attributes:
        split: train or test.
        index: its position there, from 0, as in `dataset[split][index]`.
        row: the pair.
        stored: the same, as one row of Arrow.
    """

    split: str
    index: int
    row: TextRow | ConversationalRow
    stored: pa.RecordBatch


def matching_pairs(prepared: Prepared, matches: Callable[[pa.RecordBatch], pa.BooleanArray]) -> Iterator[PairAt]:
    """Yield the pairs of the rows that `matches` marks in a batch, in order."""
    for split in prepared.split_names:
        start = 0
        for batch in prepared.batches(split):
            for position in np.flatnonzero(matches(batch).to_numpy(zero_copy_only=False)).tolist():
                yield _pair_at(prepared, split, start + position, batch.slice(position, 1))
            start += batch.num_rows


def _pair_at(prepared: Prepared, split: str, index: int, stored: pa.RecordBatch) -> PairAt:
    model = TextRow if prepared.manifest.form == "text" else ConversationalRow
    return PairAt(split, index, model.model_validate(stored.to_pylist()[0]), stored)


def pair_at(prepared: Prepared, split: str, index: int) -> PairAt:
    """The pair at a position of a split, from 0.

    Raises: PreparedError: the split has fewer pairs.
    """
    start = 0
    for batch in prepared.batches(split):
        if index < start + batch.num_rows:
            return _pair_at(prepared, split, index, batch.slice(index - start, 1))
        start += batch.num_rows
    raise PreparedError(
        f"{prepared.path}: {split} ends before row {index}.\n  Find out more: dpo-data validate FOLDER."
    )


def pairs_with_id(prepared: Prepared, prefix: str) -> Iterator[PairAt]:
    """The pairs whose id begins so."""
    return matching_pairs(prepared, lambda rows: pc.starts_with(rows.column("id"), prefix))


def pairs_by_id(prepared: Prepared, ids: Collection[str]) -> dict[str, PairAt]:
    """The pairs with these ids, those that are there; of equal pairs the first."""
    return _pairs_by(prepared, "id", ids)


def pairs_by_origin(prepared: Prepared, origins: Collection[str]) -> dict[str, PairAt]:
    """The first pair of each of these raw rows, where it gave any."""
    return _pairs_by(prepared, "origin", origins)


def _pairs_by(prepared: Prepared, column: str, values: Collection[str]) -> dict[str, PairAt]:
    wanted = pa.array(sorted(values), pa.string())
    found: dict[str, PairAt] = {}
    for pair in matching_pairs(prepared, lambda rows: pc.is_in(rows.column(column), wanted)):
        found.setdefault(getattr(pair.row, column), pair)
    return found
