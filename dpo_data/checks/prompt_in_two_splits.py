"""A prompt on both sides of the split."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row whose prompt was first seen in another split, with the first row of that prompt."""
    _, first, group = np.unique(keys["prompt"], return_index=True, return_inverse=True)
    leaks = np.flatnonzero(keys["split"] != keys["split"][first[group]])
    return np.stack([leaks, first[group[leaks]]], axis=1)


PROMPT_IN_TWO_SPLITS = DatasetCheck(
    code="prompt_in_two_splits",
    summary="the prompt also stands in another split",
    hint="Evaluation would measure memory. Split by prompt instead: --test-fraction 0.1.",
    find=find,
)
