"""Builders of scored responses that several adapters share: two named sides, A and B, dialogues, groups of rows."""

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from dpo_data.errors import RowError
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, as_row_error, required
from dpo_data.sources.messages import messages
from dpo_data.sources.source import AdaptedGroup, SourceOptions


def user(text: str) -> Message:
    """Return a user message."""
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    """Return an assistant message."""
    return Message(role="assistant", content=text)


def user_prompt(text: str, system: str | None = None) -> list[Message]:
    """Return a prompt of one user message, after a system message if there is one."""
    return [*([Message(role="system", content=system)] if system else []), user(text)]


def preferred(
    prompt: Content,
    chosen: str | Sequence[Message],
    rejected: str | Sequence[Message],
    chosen_score: float | None = None,
    rejected_score: float | None = None,
    *,
    tools: str | None = None,
) -> ScoredResponses:
    """Return two responses of which one is known to be preferred.

    Scores are used only if both are given; equal scores make the pair a tie.

    Raises: RowError: contradicting_scores, if rejected has the higher score.
    """
    if chosen_score is None or rejected_score is None:
        return ScoredResponses(
            prompt=prompt,
            responses=[Response(content=_messages(chosen), rank=1), Response(content=_messages(rejected), rank=2)],
            tools=tools,
        )
    if chosen_score < rejected_score:
        message = f"rejected has the higher score: {rejected_score:g} against {chosen_score:g}."
        raise RowError("contradicting_scores", "chosen_score", message)
    return ScoredResponses(
        prompt=prompt,
        responses=[
            Response(content=_messages(chosen), score=chosen_score),
            Response(content=_messages(rejected), score=rejected_score),
        ],
        tools=tools,
    )


def signed_preference(prompt: Content, a: str, b: str, strength: float, *, tools: str | None = None) -> ScoredResponses:
    """Return two responses, given by how much B is better: negative if A is better, 0 for a tie.

    The better response gets the absolute strength as its score and the other one 0, so that the margin of the pair is
    the strength that the annotators gave.
    """
    return ScoredResponses(
        prompt=prompt,
        responses=[
            Response(content=[assistant(a)], score=max(-strength, 0.0)),
            Response(content=[assistant(b)], score=max(strength, 0.0)),
        ],
        tools=tools,
    )


def unscored(prompt: Content, a: Sequence[Message], b: Sequence[Message], reason: str) -> ScoredResponses:
    """Return two responses that are left out, for a reason in one word."""
    return ScoredResponses(
        prompt=prompt, responses=[Response(content=list(a), reason=reason), Response(content=list(b), reason=reason)]
    )


def _messages(content: str | Sequence[Message]) -> list[Message]:
    return [assistant(content)] if isinstance(content, str) else list(content)


def shared_dialogue(row: Row, chosen: str, rejected: str) -> tuple[list[Message], list[Message], list[Message]]:
    """Return the prompt and the two responses of two columns that hold whole dialogues.

    Raises: RowError: missing_field, wrong_type, no_response or prompts_diverge.
    """
    return split_dialogues(messages(required(row, chosen), chosen), messages(required(row, rejected), rejected))


def split_dialogues(
    chosen: list[Message], rejected: list[Message], names: tuple[str, str] = ("chosen", "rejected")
) -> tuple[list[Message], list[Message], list[Message]]:
    """Split two dialogues into their shared prompt and the two responses, which start where the dialogues differ.

    Raises: RowError: no_response or prompts_diverge.
    """
    shorter = min(len(chosen), len(rejected))
    # If one dialogue is a prefix of the other, or both are equal, the last shared message can still be a response.
    start = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter - 1)
    while start > 0 and not chosen[start].role == rejected[start].role == "assistant":
        start -= 1
    if start <= 0:
        message = f"{names[0]} and {names[1]} share no message before an assistant message."
        raise RowError("prompts_diverge", "", message)
    for name, dialogue in zip(names, (chosen, rejected), strict=True):
        require_response(name, dialogue[start:])
    return chosen[:start], chosen[start:], rejected[start:]


def require_response(field: str, response: Sequence[Message]) -> None:
    """Raise RowError unless a response ends with an assistant message and has no user message.

    Raises: RowError: no_response or prompts_diverge.
    """
    if not response or response[-1].role != "assistant":
        raise RowError("no_response", field, f"{field} does not end with an assistant message.")
    if any(message.role == "user" for message in response):
        raise RowError("prompts_diverge", field, f"{field} has user messages after the shared prompt.")


def merge_rows(
    rows: Sequence[Row],
    options: SourceOptions,
    adapt: Callable[[Row, SourceOptions], ScoredResponses],
) -> AdaptedGroup:
    """Adapt each row, then merge the responses of rows with the same prompt and tools."""
    group = separate_rows(rows, options, adapt)
    merged: list[ScoredResponses] = []
    for scored in group.responses:
        existing = next((i for i, m in enumerate(merged) if (m.prompt, m.tools) == (scored.prompt, scored.tools)), None)
        if existing is None:
            merged.append(scored)
        else:
            responses = [*merged[existing].responses, *scored.responses]
            merged[existing] = merged[existing].model_copy(update={"responses": responses})
    group.responses = merged
    return group


def separate_rows(
    rows: Sequence[Row],
    options: SourceOptions,
    adapt: Callable[[Row, SourceOptions], ScoredResponses],
) -> AdaptedGroup:
    """Adapt each row by itself."""
    group = AdaptedGroup()
    for index, row in enumerate(rows):
        try:
            scored = adapt(row, options)
        except ValidationError as error:
            group.errors[index] = as_row_error(error)
        except RowError as error:
            group.errors[index] = error
        else:
            if index:
                responses = [response.model_copy(update={"row": index}) for response in scored.responses]
                scored = scored.model_copy(update={"responses": responses})
            group.responses.append(scored)
    return group
