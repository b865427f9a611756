"""Options of tokenization."""

import datetime
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, JsonValue

from dpo_data.errors import UsageError, argument, require_choice
from dpo_data.options import DEFAULT_MAX_LENGTH, Form, OnOverlong, TruncationMode, TruncationUnit
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
        TruncationUnit | None, Field(description="Unit by which prompts are truncated; null: token.")
    ] = None
    keep_system: Annotated[
        bool | None, Field(description="Whether truncation by turns keeps the system message; null: it does.")
    ] = None
    date: Annotated[str | None, Field(description="The day that the template takes for today, YYYY-MM-DD.")] = None

    def for_form(self, form: Form) -> "TokenOptions":
        """Return the options with the truncation unit for pairs of a form; those with equal ids become equal.

        Raises: UsageError: truncation by turns, or an option of it, for text.
        """
        if form == "text" and (self.truncation_unit == "turn" or self.keep_system is not None):
            given = "keep_system" if self.keep_system is not None else "truncation_unit"
            value = self.keep_system if self.keep_system is not None else self.truncation_unit
            raise UsageError("is for conversational data, and this is text.\n  Leave it out.", given, value)
        truncates = self.max_length is not None and self.on_overlong == "truncate"
        by_turns = form == "conversational" and truncates and self.truncation_unit != "token"
        return self.model_copy(
            update={
                "truncation_unit": "turn" if by_turns else None,
                "keep_system": False if by_turns and self.keep_system is False else None,
            }
        )


def token_options(
    *,
    max_length: int | None = DEFAULT_MAX_LENGTH,
    max_prompt_length: int | None = None,
    truncation_mode: TruncationMode | None = None,
    truncation_unit: TruncationUnit | None = None,
    keep_system: bool | None = None,
    on_overlong: OnOverlong = "truncate",
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    template_date: datetime.date | str | None = None,
) -> TokenOptions:
    """Return the options of `dpo_data.tokenize`, checked; their unit is null where the form of the pairs decides.

    Raises: UsageError: limits that leave no room for a prompt or a response, an unknown mode, arguments that a chat
        template cannot get, a date that is none, or options that contradict each other.
    """
    check_limits(max_length, max_prompt_length)
    if truncation_mode is not None:
        require_choice("truncation_mode", truncation_mode, TruncationMode)
    if truncation_unit is not None:
        require_choice("truncation_unit", truncation_unit, TruncationUnit)
    require_choice("on_overlong", on_overlong, OnOverlong)
    if truncation_unit == "turn" and truncation_mode == "keep_start":
        raise UsageError(
            "drops the oldest turns of a prompt, but keep_start keeps them.\n"
            f"  Leave {argument('truncation_mode')} out, or give {argument('truncation_unit', 'token')}.",
            "truncation_unit",
            truncation_unit,
        )
    # With these two, people compare with TRL, which truncates by tokens.
    if truncation_unit is None and (truncation_mode is not None or max_prompt_length is not None):
        truncation_unit = "token"
    if keep_system is not None and truncation_unit == "token":
        raise UsageError(
            f"has no effect without truncation by turns.\n  Give {argument('truncation_unit', 'turn')}, or leave it "
            "out.",
            "keep_system",
            keep_system,
        )
    return TokenOptions(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        truncation_mode=truncation_mode or "keep_end",
        truncation_unit=truncation_unit,
        keep_system=keep_system,
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
