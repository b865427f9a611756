"""Preference format of the OpenAI fine-tuning API: an input with messages, and two outputs.

Azure and Together read the same lines with rules of their own; see `azure` and `together`.
"""

import json

from dpo_data.exports.format import CONVERSATION, TOOLS, ExportFormat, Layout, Line
from dpo_data.exports.notation import arguments_as_text, chat_message, messages_of
from dpo_data.exports.rules import complete_calls, differ, ends_with, one_message, roles
from dpo_data.records import ConversationalPair, PreferencePair

OUTPUTS = ("preferred_output", "non_preferred_output")
MEBIBYTE = 1024**2
COLUMNS = {"input.messages": "messages", **dict.fromkeys(OUTPUTS, "messages")}
CALLS = complete_calls("input.messages", *OUTPUTS)


def lines(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation."""
    prompt, chosen, rejected = (
        [arguments_as_text(chat_message(message, reasoning=False)) for message in messages_of(content)]
        for content in (pair.prompt, pair.chosen, pair.rejected)
    )
    request: Line = {"messages": prompt}
    if isinstance(pair, ConversationalPair) and pair.tools:
        request["tools"] = json.loads(pair.tools)
    return [{"input": request, "preferred_output": chosen, "non_preferred_output": rejected}]


FORMAT = ExportFormat(
    name="openai",
    reader="OpenAI API, guide of 2026-11",
    homepage="https://developers.openai.com/api/docs/guides/direct-preference-optimization",
    layouts={
        "preference": Layout(
            columns=COLUMNS,
            optional={"input.tools": "objects"},
            carries=CONVERSATION - {"response_turns"} | TOOLS,
            lines=lines,
            rules=(
                roles("input.messages", ("system", "developer", "user", "assistant", "tool")),
                ends_with("input.messages", ("user", "tool")),
                *(roles(output, ("assistant",)) for output in OUTPUTS),
                *(one_message(output) for output in OUTPUTS),
                CALLS,
                differ(*OUTPUTS),
            ),
            read_back="openai-preference",
        )
    },
    usage="Upload a file with the purpose `fine-tune`; the method of the job is `dpo`.",
    notes=("Arguments of tool calls that are objects are written as text, so that read back they have other ids.",),
    min_lines=10,
    max_bytes=512 * MEBIBYTE,
)
