"""A prompt of the test split that is also in the train split."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_train_row_of_group, with_first_row
from dpo_data.options import SPLITS
from dpo_data.records import TextPair

TRAIN = SPLITS.index("train")


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each test row whose prompt is in train, with the first train row of that prompt, in any reading order."""
    first = first_train_row_of_group(keys, "prompt")
    return with_first_row((keys["split"] != TRAIN) & (first >= 0), first)


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
