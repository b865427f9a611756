"""Any table with a prompt and several scored or ranked responses, named so or mapped with --map.

`responses` is a list of strings or of message lists; `scores` (higher is better) or `ranks` (lower is better) has one
number per response. A path into a list of objects selects a field of every object: --map responses=answers.text
--map ranks=answers.rank reads {"answers": [{"text": ..., "rank": 1}]}.
"""

from typing import Any

from dpo_data.dialogue import transcript_messages
from dpo_data.errors import RowError
from dpo_data.records import Content, Response, ScoredResponses
from dpo_data.sources.fields import FieldMap, Row, lookup, missing, number
from dpo_data.sources.messages import from_text, messages, written_messages
from dpo_data.sources.responses import assistant, require_response, user
from dpo_data.sources.source import RowContents, Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the responses with their scores or ranks; a response whose score or rank is null is left out.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    paths = {field: options.mapping.get(field, field) for field in ("prompt", "responses", "scores", "ranks")}
    prompt, answers = _prompt_and_answers(row, options.mapping)
    if prompt is None or answers is None:
        raise missing(row, paths["prompt" if prompt is None else "responses"])
    if not isinstance(answers, list):
        raise RowError("wrong_type", paths["responses"], f"{paths['responses']} is not a list of responses.")
    kinds = [kind for kind in ("scores", "ranks") if lookup(row, paths[kind]) is not None]
    if len(kinds) != 1:
        message = "the row has both scores and ranks." if kinds else "the row has neither scores nor ranks."
        raise RowError("missing_field" if not kinds else "wrong_type", paths["scores"], message)
    values = from_text(lookup(row, paths[kinds[0]]))
    if not isinstance(values, list) or len(values) != len(answers):
        state = f"has {len(values)} values" if isinstance(values, list) else "is not a list"
        message = f"{paths[kinds[0]]} {state}; the row has {len(answers)} responses."
        raise RowError("wrong_type", paths[kinds[0]], message)
    as_text = isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers)
    responses = []
    for index, (answer, value) in enumerate(zip(answers, values, strict=True)):
        score = rank = None
        if kinds[0] == "scores":
            score = number(value, f"{paths['scores']}.{index}")
        else:
            rank = number(value, f"{paths['ranks']}.{index}")
        reason = "unscored" if score is None and rank is None else None
        content = _content(answer, f"{paths['responses']}.{index}", as_text)
        responses.append(Response(content=content, score=score, rank=rank, reason=reason))
    if not as_text and isinstance(prompt, str):
        prompt = transcript_messages(prompt) or [user(prompt)]
    elif not as_text:
        prompt = messages(prompt, paths["prompt"])
    return ScoredResponses(prompt=prompt, responses=responses)


def _prompt_and_answers(row: Row, mapping: FieldMap) -> tuple[Any, Any]:
    """Return the prompt and the answers; lists may be written as text in a cell.

    Raises: RowError: wrong_type.
    """
    prompt, answers = (mapping.get(field, field) for field in ("prompt", "responses"))
    found = from_text(lookup(row, answers))
    if isinstance(found, list):
        found = [written_messages(answer, f"{answers}.{index}") for index, answer in enumerate(found)]
    return written_messages(lookup(row, prompt), prompt), found


def _content(answer: Any, path: str, as_text: bool) -> Content:
    if isinstance(answer, str):
        return answer if as_text else [assistant(answer)]
    content = messages(answer, path)
    require_response(path, content)
    return content


def contents(row: Row, mapping: FieldMap) -> RowContents | None:
    """Return the prompt and the responses of a row, or None if it lacks either."""
    try:
        prompt, answers = _prompt_and_answers(row, mapping)
    except RowError:
        return None
    return RowContents(prompt, answers) if prompt is not None and isinstance(answers, list) else None


SOURCE = Source(
    name="ranked",
    license="unknown",
    homepage="",
    direction="the higher score, or the lower rank",
    columns=("prompt", "responses"),
    adapt=adapt,
    optional=("scores", "ranks"),
    looks_like=lambda row: isinstance(row["responses"], list) and ("scores" in row or "ranks" in row),
    has_scores=True,
    has_tools=True,
    contents=contents,
    mapped_fields=("prompt", "responses", "scores", "ranks"),
    example_options="--map responses=answers.text --map scores=answers.score",
)
