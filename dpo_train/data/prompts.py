"""Prompts that both responses of a pair begin with, as in datasets without a column prompt."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_data.dialogue import shared_prompt
from dpo_data.errors import UsageError
from dpo_data.records import FIELDS

Columns = Mapping[str, list[Any]]


def has_implicit_prompts(columns: Columns) -> bool:
    """Return True if the responses of a batch of pairs contain their prompt: as text or as messages.

    A prompt that is text does not count beside responses that are messages (as in ultrafeedback_binarized).
    """
    if not len(columns["chosen"]):
        return False
    if "prompt" not in columns:
        return True
    return isinstance(columns["prompt"][0], str) and isinstance(columns["chosen"][0], list)


def with_prompts(columns: Columns, name: str, first_row: int) -> dict[str, list[Any]]:
    """Return pairs with explicit prompts in place of those that both responses begin with.

    Args:
        columns: of the pairs; see `has_implicit_prompts`.
        name: name of the dataset in error messages.
        first_row: number of the first row in error messages.

    Raises:
        UsageError: the responses of a pair share no beginning, or it differs from the text in the column prompt.
    """
    pairs: list[tuple[Any, Any, Any]] = []
    for row, (chosen, rejected) in enumerate(zip(columns["chosen"], columns["rejected"], strict=True)):
        where = f"{name}, row {first_row + row}"
        if type(chosen) is not type(rejected) or not isinstance(chosen, str | list):
            raise UsageError(f"{where}: chosen and rejected must both be text or both be lists of messages.")
        end = _end_of_prompt(chosen, rejected)
        if end == 0:
            raise UsageError(
                f"{where}: there is no prompt: chosen and rejected differ from their beginning.\n"
                "  Add a column prompt with the text or the messages that both responses answer."
            )
        if "prompt" in columns and not _is_in(columns["prompt"][row], chosen[:end]):
            raise UsageError(f"{where}: the text of prompt is not among the messages that both responses begin with.")
        pairs.append((chosen[:end], chosen[end:], rejected[end:]))
    return {**columns, **{field: [pair[index] for pair in pairs] for index, field in enumerate(FIELDS)}}


def _end_of_prompt(chosen: Any, rejected: Any) -> int:
    r"""Return how many messages or characters of two responses are their prompt.

    >>> _end_of_prompt("The sky is blue.", "The sky is black.")
    10
    >>> _end_of_prompt("\n\nHuman: Hi\n\nAssistant: Yes, I am", "\n\nHuman: Hi\n\nAssistant: Yes, we are")
    23
    """
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(chosen, rejected, strict=False))
    end = sum(1 for _ in same)
    if not isinstance(chosen, str):
        return end
    if transcript := shared_prompt(chosen, rejected):
        return transcript
    # Back to the end of a word, unless both texts go on with a new one: its space belongs to the response.
    while end and any(not text[end : end + 1].isspace() for text in (chosen, rejected) if end < len(text)):
        end -= 1
    return end


def _is_in(prompt: Any, messages: Sequence[Any]) -> bool:
    return any(str(message.get("content")).strip() == str(prompt).strip() for message in messages)
