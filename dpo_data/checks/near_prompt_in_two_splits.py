"""A prompt that hardly differs from one on the other side of the split."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row whose prompt is nearly, but not quite, that of an earlier row of another split, with that row."""
    _, first, group = np.unique(keys["near_prompt"], return_index=True, return_inverse=True)
    near = (keys["prompt"] != keys["prompt"][first[group]]) & (keys["split"] != keys["split"][first[group]])
    rows = np.flatnonzero(near)
    return np.stack([rows, first[group[rows]]], axis=1)


NEAR_PROMPT_IN_TWO_SPLITS = DatasetCheck(
    code="near_prompt_in_two_splits",
    summary="the prompt is nearly that of a row of another split",
    hint="Evaluation would measure memory in part: leave such rows out of one of the splits.",
    find=find,
    by="near_prompt",
)
