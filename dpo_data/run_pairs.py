"""Measurements of the pairs of a training run: pairs.parquet, written and read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpo_data.errors import InputError, reading

RUN_PAIRS = "pairs.parquet"

#: Measures of a pair: summed log-probabilities in nats, and the reward of chosen minus that of rejected.
MEASURES = ("policy_chosen_logps", "policy_rejected_logps", "ref_chosen_logps", "ref_rejected_logps", "margin")
#: Columns that every reader may rely on; `step` is the optimizer step of the measurement.
RUN_COLUMNS = ("split", "id", "origin", "step", "margin")


@dataclass(frozen=True)
class MeasuredPairs:
    """Measurements of N pairs of one split.

    Attributes:
        split: train or test.
        ids: of the pairs.
        origins: "file:line" of each pair.
        steps: (N,) optimizer step at which each pair was measured.
        values: name in `MEASURES` to its values, (N,).
    """

    split: str
    ids: Sequence[str | None]
    origins: Sequence[str | None]
    steps: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float64]]

    def table(self) -> pa.Table:
        """Return the measurements as a table, one row a pair."""
        columns = {"split": [self.split] * len(self.ids), "id": self.ids, "origin": self.origins, "step": self.steps}
        return pa.table({**columns, **{name: self.values[name] for name in MEASURES}})


def write_run_pairs(run: str | Path, parts: Iterable[MeasuredPairs]) -> None:
    """Write the measurements of a run into its folder, or no file if there are none."""
    if tables := [part.table() for part in parts]:
        pq.write_table(pa.concat_tables(tables), Path(run) / RUN_PAIRS, write_page_checksum=True)


def read_run_pairs(run: str | Path) -> pa.Table:
    """Return the `RUN_COLUMNS` of the pairs of a run; a pair that was measured several times has several rows.

    Raises: InputError: the file is missing or damaged, or lacks a column.
    """
    path = Path(run) / RUN_PAIRS
    with reading(path):
        table = pq.read_table(path, page_checksum_verification=True)
    if missing := [name for name in RUN_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: has no column {', '.join(missing)}; it has {', '.join(table.column_names)}.")
    return table.select(RUN_COLUMNS)
