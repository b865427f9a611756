"""Options of tokenization."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from dpo_data.errors import UsageError, require_choice
from dpo_data.options import DEFAULT_MAX_LENGTH, OnOverlong, TruncationMode
from dpo_data.prepared.files import hash_json
from dpo_data.prepared.manifest import ManifestModel
from dpo_data.tokens.templates import check_template_arguments
from dpo_data.tokens.truncation import check_limits


class TokenOptions(ManifestModel):
    """Options that decide the ids, apart from the tokenizer; lengths in tokens. Make one with `token_options`."""

    max_length: int | None
    max_prompt_length: int | None
    truncation_mode: TruncationMode
    on_overlong: OnOverlong
    chat_template: Annotated[str | None, Field(description="Hash of a template given by the user.")] = None
    chat_template_kwargs: Annotated[
        dict[str, JsonValue] | None, Field(description="Arguments that the chat template was given.")
    ] = None
    truncation_unit: Annotated[
        Literal["token", "turn"] | None, Field(description="Unit by which prompts are truncated; null: token.")
    ] = None
    date: Annotated[str | None, Field(description="The day that the template takes for today, YYYY-MM-DD.")] = None


def token_options(
    *,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode = "keep_end",
    on_overlong: OnOverlong = "truncate",
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
) -> TokenOptions:
    """Return the options of `dpo_data.tokenize`, checked.

    Raises: UsageError: limits that leave no room for a prompt or a response, an unknown mode, arguments that a chat
        template cannot get, or a date that is none.
    """
    check_limits(max_length, max_prompt_length)
    require_choice("truncation_mode", truncation_mode, TruncationMode)
    require_choice("on_overlong", on_overlong, OnOverlong)
    return TokenOptions(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode,
        on_overlong=on_overlong,
        chat_template=None if chat_template is None else hash_json(chat_template),
        chat_template_kwargs=check_template_arguments(chat_template_kwargs),
        date=None if template_date is None else _iso_date(template_date),
    )


def _iso_date(date: datetime.date | str) -> str:
    try:
        return datetime.date.fromisoformat(str(date)).isoformat()
    except ValueError as error:
        raise UsageError("must be a day, as in 2026-11-25.", "template_date", date) from error
