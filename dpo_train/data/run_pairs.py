"""Write the measurements of a run's pairs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpo_data.run_pairs import MeasuredPairs, write_run_pairs
from dpo_train.data.rows import PairRows


@dataclass(frozen=True)
class MeasuredRows:
    """Measurements of some rows of a dataset.

    Attributes:
        split: train or test.
        dataset: the rows' dataset.
        rows: (n,) positions in it.
        steps: (n,) optimizer step of each measurement.
        values: name in `dpo_data.run_pairs.MEASURES` to its values, (n,).
    """

    split: str
    dataset: PairRows
    rows: np.ndarray
    steps: np.ndarray
    values: Mapping[str, np.ndarray]


def write_measured_rows(run: Path, parts: Iterable[MeasuredRows]) -> None:
    """Write measurements into a run's folder, with the id and origin of each pair."""
    measured = (
        MeasuredPairs(
            split=part.split,
            ids=part.dataset.column("id", part.rows),
            origins=part.dataset.column("origin", part.rows),
            steps=part.steps,
            values=part.values,
        )
        for part in parts
    )
    write_run_pairs(run, measured)
