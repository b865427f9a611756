"""One pair judged both ways, in two spellings."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row that is the swap of the first row with its texts, once white space and case are made alike.

    Swaps to the letter are left to `contradiction`.
    """
    _, first, group = np.unique(keys["alike"], return_index=True, return_inverse=True)
    first = first[group]
    swapped = keys["alike_chosen"] != keys["alike_chosen"][first]
    rows = np.flatnonzero(swapped & (keys["unordered"] != keys["unordered"][first]))
    return np.stack([rows, first[rows]], axis=1)


SWAPPED_DUPLICATE = DatasetCheck(
    code="swapped_duplicate",
    summary="the swap of an earlier row, but for white space, case and Unicode composition",
    hint="The two cancel out: keep the one you trust, or train with label smoothing.",
    find=find,
    by="alike",
)
