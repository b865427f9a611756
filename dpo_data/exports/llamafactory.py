"""LLaMA-Factory's ranking formats, with the entry of dataset_info.json that names them.

`sharegpt` has conversations of {from, value} and one message for each side, with tool calls; `alpaca` has an
instruction with its history and two texts.
"""

import json
from collections.abc import Mapping
from typing import Any

from dpo_data.exports.format import Exported, ExportFormat, Layout, Line
from dpo_data.exports.notation import messages_of, sharegpt_turn
from dpo_data.exports.rules import differ, not_empty, roles, takes_turns
from dpo_data.records import ConversationalPair, PreferencePair

USERS, ASSISTANTS = ("human", "observation"), ("gpt", "function_call")
#: Column of a layout -> its name in dataset_info.json.
COLUMNS = {
    "sharegpt": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"},
    "alpaca": {
        "prompt": "instruction",
        "history": "history",
        "system": "system",
        "chosen": "chosen",
        "rejected": "rejected",
        "tools": "tools",
    },
}


def sharegpt(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation."""
    line: Line = {"conversations": [sharegpt_turn(message) for message in messages_of(pair.prompt)]}
    line |= {name: sharegpt_turn(messages_of(getattr(pair, name))[-1]) for name in ("chosen", "rejected")}
    return [line | _tools(pair)]


def alpaca(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation of plain turns; others get a history that breaks the rules."""
    messages = messages_of(pair.prompt)
    system = messages[0].content if messages[0].role == "system" else ""
    *turns, last = messages[1:] if messages[0].role == "system" and len(messages) > 1 else messages
    line: Line = {"instruction": last.content if last.role == "user" else None}
    roles_of_turns = [message.role for message in turns]
    if roles_of_turns != ["user", "assistant"] * (len(turns) // 2):
        line["instruction"] = None  # no history of [question, answer] pairs
    if turns:
        texts = [message.content for message in turns]
        line["history"] = [[question, answer] for question, answer in zip(texts[::2], texts[1::2], strict=False)]
    if system:
        line["system"] = system
    line |= {name: messages_of(getattr(pair, name))[-1].content for name in ("chosen", "rejected")}
    return [line | _tools(pair)]


def _tools(pair: PreferencePair) -> Line:
    return {"tools": pair.tools} if isinstance(pair, ConversationalPair) and pair.tools else {}


def dataset_info(exported: Exported) -> Mapping[str, str]:
    """Return dataset_info.json with one entry for each split: the name of the dataset, and with the split after it."""
    names = COLUMNS[exported.layout]
    columns = {name: column for name, column in names.items() if column in exported.columns}
    entries: dict[str, Any] = {}
    for split, file in exported.files.items():
        name = exported.name if split == "train" else f"{exported.name}_{split}"
        entries[name] = {
            "file_name": file, "formatting": exported.layout, "ranking": True, "columns": columns
        }  # fmt: skip
    return {"dataset_info.json": json.dumps(entries, indent=2, ensure_ascii=False) + "\n"}


_SIDES = differ("chosen", "rejected")
FORMAT = ExportFormat(
    name="llamafactory",
    reader="LLaMA-Factory 0.9.5",
    homepage="https://github.com/hiyouga/LLaMA-Factory/tree/main/data",
    layouts={
        "sharegpt": Layout(
            columns={"conversations": "turns", "chosen": "turn", "rejected": "turn"},
            optional={"tools": "objects"},
            carries=frozenset(["system", "turns", "tools", "tool_calls"]),
            lines=sharegpt,
            rules=(
                takes_turns("conversations", USERS, ASSISTANTS, key="from"),
                roles("chosen", ASSISTANTS, key="from"),
                roles("rejected", ASSISTANTS, key="from"),
                not_empty("chosen", "rejected"),
                _SIDES,
            ),
            read_back="llamafactory",
        ),
        "alpaca": Layout(
            columns={"instruction": "text", "chosen": "text", "rejected": "text"},
            optional={"history": "history", "system": "text", "tools": "objects"},
            carries=frozenset(["system", "turns", "tools"]),
            lines=alpaca,
            rules=(not_empty("instruction", "chosen", "rejected"), _SIDES),
            read_back="llamafactory",
        ),
    },
    usage="`dataset_dir: DIR` and `dataset: NAME` with the name in dataset_info.json; `stage: dpo` and a `template`.",
    notes=(
        "LLaMA-Factory skips rows that break its rules with a warning in the log only; none of these lines does.",
        "A prompt that is too long for cutoff_len loses its end, and a cut response has no EOS.",
    ),
    side_files=dataset_info,
)
