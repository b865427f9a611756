"""A prompt that is nearly identical to one in another split."""

from functools import partial

from dpo_data.checks.check import DatasetCheck
from dpo_data.checks.near_duplicate_prompt import NEAR_PAIRS
from dpo_data.checks.near_prompts import near_rows

CHECK = DatasetCheck(
    code="near_prompt_in_two_splits",
    summary="the prompt is nearly identical to one in another split",
    hint="Evaluation would partly measure memorization: remove such rows from one of the splits.",
    find=partial(near_rows, across_splits=True),
    example={"train": NEAR_PAIRS[:1], "test": NEAR_PAIRS[1:]},
    by="near_prompt",
)
