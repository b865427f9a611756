"""One text that is chosen for many prompts."""

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys, first_row_of_group, with_first_row
from dpo_data.records import TextPair

#: Number of prompts from which the same chosen text is reported.
MIN_PROMPTS = 5
#: Characters of a chosen text; many prompts share shorter answers, such as "Yes." or "Option B".
MIN_CHARACTERS = 24


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row, except the first, with a chosen text that five or more prompts share, with the first row.

    Short answers pass.
    """
    first = first_row_of_group(keys, "chosen")
    distinct = np.unique(np.stack([first, first_row_of_group(keys, "prompt")]), axis=1)
    prompts = np.bincount(distinct[0], minlength=len(keys))
    reported = (prompts[first] >= MIN_PROMPTS) & (first != np.arange(len(keys)))
    return with_first_row(reported & (keys["chosen_characters"] >= MIN_CHARACTERS), first)


CHECK = DatasetCheck(
    code="one_response_for_many_prompts",
    summary="chosen is the same text for five prompts or more",
    hint="The model learns such an answer by heart: check that it is not a placeholder or an error message.",
    find=find,
    example={
        "train": tuple(
            TextPair(
                prompt=f"Capital of {country}?",
                chosen="Sorry, an error occurred.",
                rejected=f"I know the capital of {country}.",
            )
            for country in ("Peru", "Chile", "Cuba", "Fiji", "Oman")
        )
    },
    by="chosen",
)
