"""Any table with a prompt and several responses that are scored or ranked, by those names or by a mapping.

`responses` is a list of strings or of message lists; `scores` (higher is better) or `ranks` (lower is better) a list of
as many numbers. A path into a list of objects takes the field of each of them: {"answers": [{"text": ..., "rank": 1}]}
is read with --map responses=answers.text --map ranks=answers.rank.
"""

from typing import Any

from dpo_data.errors import RowError
from dpo_data.records import Content, Response, ScoredResponses
from dpo_data.sources.fields import Row, lookup, messages, missing, number
from dpo_data.sources.responses import assistant, require_response, user
from dpo_data.sources.source import Source, SourceOptions


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """The responses with their scores or ranks; one that is null is left out.

    Raises: RowError: missing_field, wrong_type, no_response, prompts_diverge.
    """
    paths = {field: options.mapping.get(field, field) for field in ("prompt", "responses", "scores", "ranks")}
    prompt, answers = lookup(row, paths["prompt"]), lookup(row, paths["responses"])
    if prompt is None or answers is None:
        raise missing(row, paths["prompt" if prompt is None else "responses"])
    if not isinstance(answers, list):
        raise RowError("wrong_type", paths["responses"], f"{paths['responses']} is no list of responses.")
    kinds = [kind for kind in ("scores", "ranks") if lookup(row, paths[kind]) is not None]
    if len(kinds) != 1:
        message = "there are both scores and ranks." if kinds else "there are neither scores nor ranks."
        raise RowError("missing_field" if not kinds else "wrong_type", paths["scores"], message)
    values = lookup(row, paths[kinds[0]])
    if not isinstance(values, list) or len(values) != len(answers):
        count = len(values) if isinstance(values, list) else "no list"
        raise RowError("wrong_type", paths[kinds[0]], f"{paths[kinds[0]]} has {count} for {len(answers)} responses.")
    as_text = isinstance(prompt, str) and all(isinstance(answer, str) for answer in answers)
    responses = []
    for place, (answer, value) in enumerate(zip(answers, values, strict=True)):
        worth = number(value, f"{paths[kinds[0]]}.{place}")
        note = "unscored" if worth is None else None
        content = _content(answer, f"{paths['responses']}.{place}", as_text)
        score, rank = (worth, None) if kinds[0] == "scores" else (None, worth)
        responses.append(Response(content=content, score=score, rank=rank, note=note))
    if not as_text:
        prompt = [user(prompt)] if isinstance(prompt, str) else messages(prompt, paths["prompt"])
    return ScoredResponses(prompt=prompt, responses=responses)


def _content(answer: Any, path: str, as_text: bool) -> Content:
    if isinstance(answer, str):
        return answer if as_text else [assistant(answer)]
    content = messages(answer, path)
    require_response(path, content)
    return content


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
    mapped_fields=("prompt", "responses", "scores", "ranks"),
)
