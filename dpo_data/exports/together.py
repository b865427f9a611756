"""Preference format of Together: that of OpenAI, with exactly one message of the assistant in each output."""

from dataclasses import replace

from dpo_data.exports import openai

FORMAT = replace(
    openai.FORMAT,
    name="together",
    reader="Together, guide of 2026-11",
    homepage="https://docs.together.ai/docs/preference-fine-tuning",
    usage="`together files upload train.jsonl`; the training method of the job is `dpo`.",
    min_lines=1,
    max_bytes=None,
)
