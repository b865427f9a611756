"""Opposite preferences for one pair."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_row_of_group, with_first_row
from dpo_data.records import TextPair


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row that prefers B to A where the first row of these two responses prefers A to B, with that row."""
    first = first_row_of_group(keys, "unordered")
    return with_first_row(keys["pair"] != keys["pair"][first], first)


CHECK = DatasetCheck(
    code="contradiction",
    summary="the opposite preference of an earlier row: A over B and B over A for the same prompt",
    hint="The two cancel out: keep the one you trust, or train with label smoothing.",
    find=find,
    example={
        "train": (
            TextPair(prompt="Capital of Peru?", chosen="Lima.", rejected="Quito."),
            TextPair(prompt="Capital of Peru?", chosen="Quito.", rejected="Lima."),
        )
    },
)
