"""One text chosen again and again."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys

#: Prompts from which one chosen text is one too often.
MIN_PROMPTS = 5


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row but the first with a chosen text that stands under five prompts or more, with that first row."""
    _, first, group = np.unique(keys["chosen"], return_index=True, return_inverse=True)
    _, prompt = np.unique(keys["prompt"], return_inverse=True)
    # Each (chosen, prompt) once: how many prompts a chosen text has.
    prompts = np.bincount(np.unique(np.stack([group, prompt]), axis=1)[0], minlength=len(first))
    rows = np.flatnonzero((prompts[group] >= MIN_PROMPTS) & (first[group] != np.arange(len(keys))))
    return np.stack([rows, first[group[rows]]], axis=1)


ONE_RESPONSE_FOR_MANY_PROMPTS = DatasetCheck(
    code="one_response_for_many_prompts",
    summary="the chosen text of five prompts or more",
    hint="A model learns such an answer by heart: see that it is not a placeholder or an error message.",
    find=find,
    by="chosen",
)
