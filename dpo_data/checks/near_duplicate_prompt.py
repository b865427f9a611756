"""A prompt that is nearly identical to an earlier one."""

from functools import partial

from dpo_data.checks.check import DatasetCheck
from dpo_data.checks.near_prompts import near_rows
from dpo_data.records import TextPair

NEAR_PAIRS = (
    TextPair(prompt="How do I tie a neat bow around a big gift?", chosen="Cross the ends.", rejected="Ask someone."),
    TextPair(prompt="how do i tie a neat bow around a big gift", chosen="Make a loop.", rejected="I do not know."),
)

CHECK = DatasetCheck(
    code="near_duplicate_prompt",
    summary="the prompt is nearly identical to that of an earlier row",
    hint="Frequent prompts get more weight in training, and checks that compare prompts exactly miss such rows.",
    find=partial(near_rows, across_splits=False),
    example={"train": NEAR_PAIRS},
    by="near_prompt",
)
