"""Preference files of ms-swift: a dialogue whose last reply is preferred, and the rejected reply or dialogue.

{"messages": [...], "rejected_response": "..." or [messages], "tools": ...}: the rejected reply replaces what follows
the last user message. {"messages": [...], "rejected_messages": [...]} has two dialogues. Older releases have {"system",
"history", "query", "response", "rejected_response"}. The roles tool_call and tool_response become a tool call and its
result. Rows with images, videos or audio are refused, because only text can be trained on.
Fields as in ms-swift's docs/source_en/Customization/Custom-dataset.md and swift/template/template_inputs.py.
"""

from collections.abc import Mapping
from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Message, ScoredResponses
from dpo_data.sources.fields import Row, json_objects, optional_text, required, required_text
from dpo_data.sources.llamafactory import history
from dpo_data.sources.messages import messages, tool_calls
from dpo_data.sources.responses import assistant, preferred, require_response, split_dialogues, user
from dpo_data.sources.source import Source, SourceOptions

MEDIA = tuple(f"{side}{kind}" for side in ("", "rejected_") for kind in ("images", "videos", "audios"))


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    for column in MEDIA:
        if row.get(column):
            raise RowError("wrong_type", column, f"the row has {column}; only text is supported.")
    tools = json_objects(row.get("tools"), "tools")
    if "messages" not in row:
        system = optional_text(row, "system")
        prompt = [*([Message(role="system", content=system)] if system else []), *history(row)]
        prompt.append(user(required_text(row, "query")))
        return preferred(prompt, required_text(row, "response"), required_text(row, "rejected_response"), tools=tools)
    dialogue = _messages(required(row, "messages"), "messages")
    if row.get("rejected_messages") is not None:
        rejected = _messages(row["rejected_messages"], "rejected_messages")
        return preferred(*split_dialogues(dialogue, rejected, ("messages", "rejected_messages")), tools=tools)
    last = max((place for place, message in enumerate(dialogue) if message.role == "user"), default=-1)
    prompt, chosen = dialogue[: last + 1], dialogue[last + 1 :]
    value = required(row, "rejected_response")
    other = [assistant(value)] if isinstance(value, str) else _messages(value, "rejected_response")
    if not prompt:
        raise RowError("missing_field", "messages", "messages has no user message.")
    for field, response in (("messages", chosen), ("rejected_response", other)):
        require_response(field, response)
    return preferred(prompt, chosen, other, tools=tools)


def _messages(value: Any, path: str) -> list[Message]:
    """Return messages, of which those with the role tool_call become one message that calls the tools."""
    if not isinstance(value, list):
        return messages(value, path)
    read: list[Message] = []
    calls: list[str] = []
    for index, item in enumerate([*value, None]):
        role = item.get("role") if isinstance(item, Mapping) else None
        if role == "tool_call":
            calls.append(required_text(item, "content", f"{path}.{index}."))
            continue
        if calls:
            read.append(
                Message(role="assistant", content="", tool_calls=tool_calls(calls, f"{path}.{index - 1}.content"))
            )
            calls = []
        if index < len(value):
            item = dict(item, role="tool") if role == "tool_response" and isinstance(item, Mapping) else item
            try:
                read += messages([item], path)
            except RowError as error:
                place = error.field.replace(f"{path}.0", f"{path}.{index}", 1)
                message = error.message.replace(f"{path}.0", f"{path}.{index}", 1)
                raise RowError(error.code, place, message) from error
    return read


SOURCE = Source(
    name="ms-swift",
    license="unknown",
    homepage="https://github.com/modelscope/ms-swift",
    direction="the last reply of messages",
    columns=(),
    layouts=(
        ("messages", "rejected_response"),
        ("messages", "rejected_messages"),
        ("query", "response", "rejected_response"),
    ),
    adapt=adapt,
    optional=("system", "history", "tools", *MEDIA),
    has_tools=True,
)
