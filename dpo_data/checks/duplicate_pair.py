"""The same pair twice."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_row_of_group, with_first_row
from dpo_data.records import TextPair


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row with the prompt, chosen and rejected of an earlier row, with the first such row."""
    first = first_row_of_group(keys, "pair")
    return with_first_row(first != np.arange(len(keys)), first)


CHECK = DatasetCheck(
    code="duplicate_pair",
    summary="the same prompt, chosen and rejected as an earlier row",
    hint="Duplicate pairs are weighted twice in training.",
    find=find,
    example={"train": (TextPair(prompt="Capital of Peru?", chosen="Lima.", rejected="Quito."),) * 2},
)
