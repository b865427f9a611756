"""What adapters share in putting prompts and responses together: two sides, A and B, ranks, whole dialogues."""

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from dpo_data.errors import RowError
from dpo_data.records import Content, Message, Response, ScoredResponses
from dpo_data.sources.fields import Row, as_row_error, messages, required
from dpo_data.sources.source import AdaptedGroup, SourceOptions


def user(text: str) -> Message:
    """A user's message."""
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    """An assistant's message."""
    return Message(role="assistant", content=text)


def question(text: str, system: str | None = None) -> list[Message]:
    """A prompt of one user's message, behind a system message unless that is empty."""
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
    """Two responses, the better one named; scores count only where both are there, and may show it to be a tie.

    Raises: RowError: contradicting_scores, where the scores say that rejected is better.
    """
    if chosen_score is None or rejected_score is None:
        return ScoredResponses(
            prompt=prompt,
            responses=[Response(content=_answer(chosen), rank=1), Response(content=_answer(rejected), rank=2)],
            tools=tools,
        )
    if chosen_score < rejected_score:
        message = f"rejected has the higher score: {rejected_score:g} against {chosen_score:g}."
        raise RowError("contradicting_scores", "chosen_score", message)
    return ScoredResponses(
        prompt=prompt,
        responses=[
            Response(content=_answer(chosen), score=chosen_score),
            Response(content=_answer(rejected), score=rejected_score),
        ],
        tools=tools,
    )


def signed_preference(prompt: Content, a: str, b: str, strength: float, *, tools: str | None = None) -> ScoredResponses:
    """Two responses and how much better B is: negative where A is better, 0 for a tie.

    The better one's score is the strength, the other's 0, so that the margin is what the annotators said.
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
    """Two responses that nothing can be said of, for a reason in one word."""
    return ScoredResponses(
        prompt=prompt, responses=[Response(content=list(a), reason=reason), Response(content=list(b), reason=reason)]
    )


def _answer(content: str | Sequence[Message]) -> list[Message]:
    return [assistant(content)] if isinstance(content, str) else list(content)


def shared_dialogue(row: Row, chosen: str, rejected: str) -> tuple[list[Message], list[Message], list[Message]]:
    """Prompt and responses of two columns that hold whole dialogues.

    Raises: RowError: missing_field, wrong_type, no_response or prompts_diverge.
    """
    return split_dialogues(messages(required(row, chosen), chosen), messages(required(row, rejected), rejected))


def split_dialogues(
    chosen: list[Message], rejected: list[Message], names: tuple[str, str] = ("chosen", "rejected")
) -> tuple[list[Message], list[Message], list[Message]]:
    """The prompt that two whole dialogues share, and the two responses: what the assistant says where they part.

    Raises: RowError: no_response or prompts_diverge.
    """
    shorter = min(len(chosen), len(rejected))
    # Where one is the beginning of the other, or both are equal, the last common message may still be the response.
    start = next((i for i in range(shorter) if chosen[i] != rejected[i]), shorter - 1)
    while start > 0 and not chosen[start].role == rejected[start].role == "assistant":
        start -= 1
    if start <= 0:
        raise RowError("prompts_diverge", "", f"{names[0]} and {names[1]} share no message before an assistant's.")
    for name, dialogue in zip(names, (chosen, rejected), strict=True):
        require_response(name, dialogue[start:])
    return chosen[:start], chosen[start:], rejected[start:]


def require_response(field: str, response: Sequence[Message]) -> None:
    """Refuse what is no response: one that the assistant does not end, or in which a user speaks.

    Raises: RowError: no_response or prompts_diverge.
    """
    if not response or response[-1].role != "assistant":
        raise RowError("no_response", field, f"{field} does not end with an assistant's message.")
    if any(message.role == "user" for message in response):
        raise RowError("prompts_diverge", field, f"{field} has user messages after the common prompt.")


def merge_rows(
    rows: Sequence[Row],
    options: SourceOptions,
    adapt: Callable[[Row, SourceOptions], ScoredResponses],
) -> AdaptedGroup:
    """Each row by itself, and then those with one prompt and the same tools together."""
    group = separate_rows(rows, options, adapt)
    merged: list[ScoredResponses] = []
    for scored in group.responses:
        same = next((i for i, m in enumerate(merged) if (m.prompt, m.tools) == (scored.prompt, scored.tools)), None)
        if same is None:
            merged.append(scored)
        else:
            responses = [*merged[same].responses, *scored.responses]
            merged[same] = merged[same].model_copy(update={"responses": responses})
    group.responses = merged
    return group


def separate_rows(
    rows: Sequence[Row],
    options: SourceOptions,
    adapt: Callable[[Row, SourceOptions], ScoredResponses],
) -> AdaptedGroup:
    """Each row by itself: what it came to, or why it came to nothing."""
    group = AdaptedGroup()
    for place, row in enumerate(rows):
        try:
            scored = adapt(row, options)
        except ValidationError as error:
            group.errors[place] = as_row_error(error)
        except RowError as error:
            group.errors[place] = error
        else:
            if place:
                responses = [response.model_copy(update={"row": place}) for response in scored.responses]
                scored = scored.model_copy(update={"responses": responses})
            group.responses.append(scored)
    return group
