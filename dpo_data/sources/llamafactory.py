"""Preference files of LLaMA-Factory in its three layouts: alpaca, sharegpt, and the messages of its v1.

alpaca has instruction, input, history, chosen and rejected; instruction and input become one user message, joined by a
line break. sharegpt has conversations of {from, value} and one message per side, or one string as in MedicalGPT;
function_call and observation become a tool call and its result. v1 has the dialogues chosen_messages and
rejected_messages, whose content is a list of {type, value}. Rows with images, videos or audio are refused,
because only text can be trained on.
Fields as in LLaMA-Factory's data/README.md and its v1 converters, and in MedicalGPT's data/reward.
"""

from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Message, ScoredResponses
from dpo_data.sources.fields import (
    Row,
    as_object,
    json_objects,
    optional_text,
    required,
    required_choice,
    required_list,
    required_text,
)
from dpo_data.sources.messages import message, messages, tool_calls
from dpo_data.sources.responses import assistant, preferred, require_response, split_dialogues, user, user_prompt
from dpo_data.sources.source import Source, SourceOptions

MEDIA = ("images", "videos", "audios")


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    for column in MEDIA:
        if row.get(column):
            raise RowError("wrong_type", column, f"the row has {column}; only text is supported.")
    if "chosen_messages" in row:
        return _v1(row)
    return _sharegpt(row) if "conversations" in row else _alpaca(row)


def _alpaca(row: Row) -> ScoredResponses:
    instruction = "\n".join(filter(None, (required_text(row, "instruction"), optional_text(row, "input"))))
    *system, request = user_prompt(instruction, optional_text(row, "system"))
    prompt = [*system, *history(row), request]
    return preferred(prompt, required_text(row, "chosen"), required_text(row, "rejected"))


def history(row: Row) -> list[Message]:
    """Return the turns of a column `history` of [question, answer] pairs.

    Raises: RowError: wrong_type.
    """
    if row.get("history") is None:
        return []
    turns = []
    for index, turn in enumerate(required_list(row, "history")):
        if not (isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)):
            raise RowError("wrong_type", f"history.{index}", f"history.{index} is not [question, answer].")
        turns += [user(turn[0]), assistant(turn[1])]
    return turns


def _sharegpt(row: Row) -> ScoredResponses:
    system = optional_text(row, "system")
    prompt = [Message(role="system", content=system)] if system else []
    prompt += messages(required(row, "conversations"), "conversations")
    sides = {side: [_sharegpt_response(required(row, side), side)] for side in ("chosen", "rejected")}
    for side, response in sides.items():
        require_response(side, response)
    return preferred(prompt, sides["chosen"], sides["rejected"], tools=json_objects(row.get("tools"), "tools"))


def _sharegpt_response(value: Any, path: str) -> Message:
    return assistant(value) if isinstance(value, str) else message(value, path)


def _v1(row: Row) -> ScoredResponses:
    sides = []
    for side in ("chosen_messages", "rejected_messages"):
        values = required_list(row, side)
        sides.append([_v1_message(value, f"{side}.{index}") for index, value in enumerate(values)])
    prompt, chosen, rejected = split_dialogues(sides[0], sides[1], ("chosen_messages", "rejected_messages"))
    return preferred(prompt, chosen, rejected, tools=json_objects(row.get("tools"), "tools"))


def _v1_message(value: Any, path: str) -> Message:
    fields = as_object(value, path)
    texts: list[str] = []
    calls: list[str] = []
    for index, part in enumerate(required_list(fields, "content", f"{path}.")):
        part_path = f"{path}.content.{index}"
        kind = required_choice(as_object(part, part_path), "type", ("text", "tool_call"), f"{part_path}.")
        (calls if kind == "tool_call" else texts).append(required_text(part, "value", f"{part_path}."))
    role = required_choice(fields, "role", ("system", "user", "assistant", "tool"), f"{path}.")
    return Message(role=role, content="".join(texts), tool_calls=tool_calls(calls, path))


def looks_like(row: Row) -> bool:
    """Return True if the row has the columns of one of the three layouts."""
    if "chosen_messages" in row:
        return "rejected_messages" in row
    if "chosen" not in row or "rejected" not in row:
        return False
    if "conversations" in row:
        return isinstance(row["chosen"], dict | str)
    return "instruction" in row and isinstance(row["chosen"], str)


SOURCE = Source(
    name="llamafactory",
    license="unknown",
    homepage="https://github.com/hiyouga/LLaMA-Factory/tree/main/data",
    direction="chosen, or chosen_messages",
    columns=(),
    adapt=adapt,
    optional=(
        *("instruction", "input", "history", "system", "conversations", "tools"),
        *("chosen", "rejected", "chosen_messages", "rejected_messages", *MEDIA),
    ),
    looks_like=looks_like,
    has_tools=True,
    tested_on="821 real rows (dpo_en_demo.json, v1_dpo_demo.jsonl, MedicalGPT data/reward) and golden rows",
)
