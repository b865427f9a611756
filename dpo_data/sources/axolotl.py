"""Preference files of axolotl's chat_template.default: a dialogue, and one message or text for each side.

{"messages": [...] or "...", "chosen": {"role", "content"}, "rejected": {"role", "content"}}. A side that is a list is
the response, or the whole dialogue, which must then begin with the messages. axolotl's other DPO types have the columns
of other sources: chatml.intel and chatml.icr those of orca-dpo-pairs, chatml.argilla_chat those of tulu3-preference,
chatml.ultra those of ultrafeedback-binarized, chatml.prompt_pairs and user_defined those of pairs.
Columns as read by axolotl's prompt_strategies/dpo.
"""

from collections.abc import Mapping
from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Message, ScoredResponses
from dpo_data.sources.fields import Row, json_objects, required
from dpo_data.sources.messages import messages
from dpo_data.sources.responses import assistant, preferred, require_response, user
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the two responses.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    value = required(row, "messages")
    prompt = [user(value)] if isinstance(value, str) else messages(value, "messages")
    if not prompt:
        raise RowError("missing_field", "messages", "messages is empty.")
    chosen, rejected = (_response(required(row, side), side, prompt) for side in ("chosen", "rejected"))
    return preferred(prompt, chosen, rejected, tools=json_objects(row.get("tools"), "tools"))


def _response(value: Any, side: str, prompt: list[Message]) -> list[Message]:
    if isinstance(value, str):
        return [assistant(value)]
    response = messages([value] if isinstance(value, Mapping) else value, side)
    if response[: len(prompt)] == prompt:
        response = response[len(prompt) :]
    require_response(side, response)
    return response


def looks_like(row: Row) -> bool:
    """Return True if the prompt is a dialogue or a text, and the sides are messages or texts."""
    sides = all(isinstance(row[side], Mapping | list | str) for side in ("chosen", "rejected"))
    return sides and isinstance(row["messages"], list | str) and not {"prompt", "conversations"} & set(row)


SOURCE = Source(
    name="axolotl",
    license="unknown",
    homepage="https://docs.axolotl.ai/docs/rlhf.html",
    direction="chosen",
    columns=("messages", "chosen", "rejected"),
    adapt=adapt,
    optional=("tools",),
    looks_like=looks_like,
    has_tools=True,
)
