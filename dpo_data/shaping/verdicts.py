"""Decisions of a step about each row: its split, or the reason why it is left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_data.options import SPLITS
from dpo_data.shaping.rows import Positions, Range

KEPT = 0


class Verdicts:
    """Reason and split of each row, on disk: two bytes a row.

    Attributes:
        reasons: reasons by their numbers; number 0 is that of the rows that are kept.
    """

    def __init__(self, folder: Path, counts: Mapping[str, int]) -> None:
        self.reasons: list[str] = [""]
        self._codes = row_values(folder / "codes", counts)
        self._splits = row_values(folder / "splits", counts)
        for split, splits in self._splits.items():
            splits[:] = SPLITS.index(split)

    def leave_out(self, split: str, positions: Positions, reason: str) -> None:
        """Leave out those rows at positions of a split that are still kept."""
        if len(positions):
            if reason not in self.reasons:
                self.reasons.append(reason)
            codes = self._codes[split]
            codes[positions[codes[positions] == KEPT]] = self.reasons.index(reason)

    def move(self, split: str, positions: Positions, target: str) -> None:
        """Move rows at positions of a split to another one."""
        if len(positions):
            self._splits[split][positions] = SPLITS.index(target)

    def codes(self, range_: Range) -> NDArray[np.uint8]:
        """Return the numbers of the reasons of a range, (N,)."""
        return self._codes[range_.split][range_.start : range_.stop]

    def all_codes(self, split: str) -> NDArray[np.uint8]:
        """Return the numbers of the reasons of a split, (N,)."""
        return self._codes[split]

    def splits(self, range_: Range) -> NDArray[np.uint8]:
        """Return the numbers of the splits of a range, (N,)."""
        return self._splits[range_.split][range_.start : range_.stop]

    def kept(self, range_: Range) -> Positions:
        """Return the positions of the rows of a range that are kept, (N,)."""
        return range_.start + np.flatnonzero(self.codes(range_) == KEPT)


def row_values(path: Path, counts: Mapping[str, int], dtype: str = "u1") -> dict[str, NDArray[Any]]:
    """Return split to one number for each of its rows, (N,), all zero; on disk, in files whose names begin with `path`.

    The files must not exist.
    """
    path.parent.mkdir(exist_ok=True)
    return {
        split: np.memmap(f"{path}.{split}", dtype, "w+", shape=(max(count, 1),))[:count]
        for split, count in counts.items()
    }
