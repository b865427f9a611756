"""A prompt in more than one split."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_row_of_group, with_first_row
from dpo_data.records import TextPair


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row whose prompt first occurs in another split, with the first row of that prompt."""
    first = first_row_of_group(keys, "prompt")
    return with_first_row(keys["split"] != keys["split"][first], first)


CHECK = DatasetCheck(
    code="prompt_in_two_splits",
    summary="the prompt is also in another split",
    hint="Evaluation would measure memorization. Split by prompt instead: --test-fraction 0.1.",
    find=find,
    example={
        "train": (TextPair(prompt="Capital of Peru?", chosen="Lima.", rejected="Quito."),),
        "test": (TextPair(prompt="Capital of Peru?", chosen="It is Lima.", rejected="It is Cusco."),),
    },
)
