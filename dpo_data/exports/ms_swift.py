"""ms-swift's preference format: two dialogues, messages and rejected_messages, in ms-swift's notation of tool calls."""

from collections.abc import Sequence

from dpo_data.exports.format import ExportFormat, Layout, Line, margin_of
from dpo_data.exports.notation import calls_text, context, messages_of, plain_message
from dpo_data.exports.rules import differ, ends_with, roles
from dpo_data.records import Message, PreferencePair

ROLES = ("system", "user", "assistant", "tool_call", "tool_response", "tool")


def lines(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation."""
    prompt, chosen, rejected = (_messages(messages_of(side)) for side in (pair.prompt, pair.chosen, pair.rejected))
    line: Line = {"messages": prompt + chosen, "rejected_messages": prompt + rejected, **context(pair)}
    margin = margin_of(pair)
    return [line if margin is None else {**line, "margin": margin}]


def _messages(messages: Sequence[Message]) -> list[Line]:
    written: list[Line] = []
    for message in messages:
        if message.tool_calls:
            written.append({"role": "tool_call", "content": calls_text(message.tool_calls)})
        else:
            written.append(plain_message(message))
    return written


FORMAT = ExportFormat(
    name="ms-swift",
    reader="ms-swift 4.6",
    homepage="https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html",
    layouts={
        "rejected_messages": Layout(
            columns={"messages": "messages", "rejected_messages": "messages"},
            optional={"tools": "objects", "chat_template_kwargs": "object", "margin": "number"},
            carries=frozenset(
                ["system", "turns", "response_turns", "tools", "tool_calls", "template_arguments", "scores"]
            ),
            lines=lines,
            rules=(
                roles("messages", ROLES),
                roles("rejected_messages", ROLES),
                ends_with("messages", ("assistant", "tool_call")),
                ends_with("rejected_messages", ("assistant", "tool_call")),
                differ("messages", "rejected_messages"),
            ),
            read_back="ms-swift",
        )
    },
    usage="`swift rlhf --rlhf_type dpo --dataset train.jsonl`.",
    notes=("ms-swift deletes rows that it cannot read, with a message in the log, unless `--strict true` is given.",),
)
