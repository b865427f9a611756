"""One pair judged both ways."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row that prefers B to A where the first row of these two responses prefers A to B, with that row."""
    _, first, group = np.unique(keys["unordered"], return_index=True, return_inverse=True)
    against = np.flatnonzero(keys["pair"] != keys["pair"][first[group]])
    return np.stack([against, first[group[against]]], axis=1)


CONTRADICTION = DatasetCheck(
    code="contradiction",
    summary="the swap of an earlier row: A over B and B over A for one prompt",
    hint="The two cancel out: keep the one you trust, or train with label smoothing.",
    find=find,
)
