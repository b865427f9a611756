"""Preference format of Azure OpenAI: that of OpenAI, with outputs of one or several messages."""

from dataclasses import replace

from dpo_data.exports import openai
from dpo_data.exports.format import CONVERSATION, TOOLS
from dpo_data.exports.rules import differ, ends_with, roles

FORMAT = replace(
    openai.FORMAT,
    name="azure",
    reader="Azure OpenAI, guide of 2026-11",
    homepage="https://learn.microsoft.com/azure/ai-foundry/openai/how-to/fine-tuning-direct-preference-optimization",
    layouts={
        "preference": replace(
            openai.FORMAT.layouts["preference"],
            carries=CONVERSATION | TOOLS,
            rules=(
                roles("input.messages", ("system", "user", "assistant", "tool")),
                ends_with("input.messages", ("user", "tool")),
                *(roles(output, ("assistant", "tool")) for output in openai.OUTPUTS),
                *(ends_with(output, ("assistant",)) for output in openai.OUTPUTS),
                openai.CALLS,
                differ(*openai.OUTPUTS),
            ),
        )
    },
)
