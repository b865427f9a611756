"""A prompt that hardly differs from another."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row whose prompt is nearly, but not quite, that of an earlier row of its split, with that row."""
    _, first, group = np.unique(keys["near_prompt"], return_index=True, return_inverse=True)
    near = (keys["prompt"] != keys["prompt"][first[group]]) & (keys["split"] == keys["split"][first[group]])
    rows = np.flatnonzero(near)
    return np.stack([rows, first[group[rows]]], axis=1)


NEAR_DUPLICATE_PROMPT = DatasetCheck(
    code="near_duplicate_prompt",
    summary="the prompt is nearly that of an earlier row",
    hint="Prompts that stand often weigh more in training, and the checks that compare prompts miss such rows.",
    find=find,
    by="near_prompt",
)
