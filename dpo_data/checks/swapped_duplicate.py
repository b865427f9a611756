"""Opposite preferences for one pair in two spellings."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_row_of_group, with_first_row
from dpo_data.records import TextPair


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row with the opposite preference of an earlier row after normalization, with the first such row.

    Rows that are equal without normalization are findings of `contradiction`.
    """
    first = first_row_of_group(keys, "normalized_unordered")
    swapped = keys["normalized_chosen"] != keys["normalized_chosen"][first]
    return with_first_row(swapped & (keys["unordered"] != keys["unordered"][first]), first)


CHECK = DatasetCheck(
    code="swapped_duplicate",
    summary="the opposite preference of an earlier row, up to whitespace, case and Unicode normalization",
    hint="The two cancel out: keep the one you trust, or train with label smoothing.",
    find=find,
    example={
        "train": (
            TextPair(prompt="Capital of Peru?", chosen="Lima.", rejected="Quito."),
            TextPair(prompt="Capital of  Peru?", chosen="quito.", rejected="lima."),
        )
    },
    by="normalized_unordered",
)
