"""axolotl's chat_template.default: messages, and one message for each side; with a snippet of its configuration."""

from collections.abc import Mapping
from typing import Any

from dpo_data.exports.format import Caution, Exported, ExportFormat, Layout, Line
from dpo_data.exports.notation import messages_of, plain_message
from dpo_data.exports.rules import differ, edge_space, ends_with, not_empty, roles
from dpo_data.records import PreferencePair

#: Words that the chat templates of common models put before a response, and axolotl's own message before it.
_HEADERS = (
    "[[dummy_message]] <|im_start|>system user assistant model <|start_header_id|> <|end_header_id|> <|begin_of_text|> "
    "You are a helpful assistant. You are Qwen, created by Alibaba Cloud. Cutting Knowledge Date: December 2023 "
    "Today Date: <start_of_turn> <end_of_turn> <|im_end|> <|eot_id|> [INST] [/INST] <bos> <s> </s> \n\n"
)


def lines(pair: PreferencePair) -> list[Line]:
    """Return the line of a conversation of plain messages."""
    line: Line = {"messages": [plain_message(message) for message in messages_of(pair.prompt)]}
    return [line | {name: plain_message(messages_of(getattr(pair, name))[-1]) for name in ("chosen", "rejected")}]


def _may_occur_before(line: Mapping[str, Any]) -> bool:
    return any(line[side]["content"].strip() in _HEADERS for side in ("chosen", "rejected"))


def config(exported: Exported) -> Mapping[str, str]:
    """Return the part of a configuration that names the files."""
    parts = ["# Part of an axolotl configuration; paths are relative to where axolotl is started.", "rl: dpo"]
    parts.append("chat_template: tokenizer_default")
    for split, file in exported.files.items():
        parts.append(f"""{"datasets" if split == "train" else "test_datasets"}:
  - path: {file}
    ds_type: json
    split: train
    type: chat_template.default
    field_messages: messages
    field_chosen: chosen
    field_rejected: rejected""")
    return {"axolotl.yaml": "\n".join(parts) + "\n"}


FORMAT = ExportFormat(
    name="axolotl",
    reader="axolotl 0.19",
    homepage="https://docs.axolotl.ai/docs/rlhf.html",
    layouts={
        "chat_template.default": Layout(
            columns={"messages": "messages", "chosen": "message", "rejected": "message"},
            carries=frozenset(["system", "turns"]),
            lines=lines,
            rules=(
                roles("messages", ("system", "user", "assistant", "tool")),
                ends_with("messages", ("user", "tool")),
                roles("chosen", ("assistant",)),
                roles("rejected", ("assistant",)),
                not_empty("chosen", "rejected"),
                differ("chosen", "rejected"),
            ),
            read_back="axolotl",
        )
    },
    usage="axolotl.yaml holds the keys that name the files.",
    notes=(
        "axolotl renders each response after a message of its own, and cuts at the first place where its text occurs.",
        "axolotl's type for Nectar takes the worst answer as chosen: train on these files instead.",
    ),
    cautions=(
        edge_space("chosen", "rejected"),
        Caution(
            "cut_too_early",
            "the response may occur in what the chat template puts before it, where axolotl then cuts",
            _may_occur_before,
        ),
    ),
    side_files=config,
)
