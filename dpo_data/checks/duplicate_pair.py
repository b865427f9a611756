"""The same pair again."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row whose prompt, chosen and rejected stand in an earlier row, with that row."""
    _, first, group = np.unique(keys["pair"], return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[group] != np.arange(len(keys)))
    return np.stack([repeats, first[group[repeats]]], axis=1)


DUPLICATE_PAIR = DatasetCheck(
    code="duplicate_pair",
    summary="the same prompt, chosen and rejected as an earlier row",
    hint="A pair that stands twice counts twice in training.",
    find=find,
)
