"""openai/webgpt_comparisons: a question, two answers with quotes from the web, and a score from -1 to 1 for each.

OpenAI's comparisons.jsonl has a list of two records in each line, {question, quotes, answer, tokens, score}; the Hub's
viewer has them as one record with answer_0, answer_1, score_0 and score_1. Both are read, and two records in rows of
their own, as in an array. Equal scores are a tie. The quotes differ between the two answers, so they are not part of
the prompt, which both share. Citations such as "[1]" stay in the answers, because the annotators saw them. The Hub
repository has a loading script instead of files.
Records as read by open-instruct's webgpt.py, and as described in appendix K of the paper (arXiv:2112.09332).
"""

from collections.abc import Sequence

from dpo_data.errors import RowError
from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import (
    Row,
    as_object,
    objects_with,
    required_list,
    required_number,
    required_object,
    required_text,
)
from dpo_data.sources.responses import assistant, user_prompt
from dpo_data.sources.source import AdaptedGroup, Grouping, Source, SourceOptions


def adapt_group(rows: Sequence[Row], options: SourceOptions) -> AdaptedGroup:
    """Return the answers of each row; of rows with one answer to the same question, of two after each other.

    Raises: RowError: as `adapt`, and for an answer without another one.
    """
    if not _has_one_answer(rows[0]):
        return AdaptedGroup([adapt(rows[0], options)])
    if len(rows) % 2:
        raise RowError("wrong_type", "question", f"{len(rows)} adjacent rows with one answer each are not in twos.")
    responses = []
    for first in range(0, len(rows), 2):
        scored = _two_records({"records": list(rows[first : first + 2])})
        of_rows = [r.model_copy(update={"row": first + number}) for number, r in enumerate(scored.responses)]
        responses.append(scored.model_copy(update={"responses": of_rows}))
    return AdaptedGroup(responses)


def _group_key(row: Row, options: SourceOptions) -> str | None:
    return repr(row["question"]) if _has_one_answer(row) else None


def _has_one_answer(row: Row) -> bool:
    return "answer" in row and "answer_0" not in row and "records" not in row


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return both answers with their scores.

    Raises: RowError: missing_field, wrong_type, prompts_diverge.
    """
    if "records" in row:
        return _two_records(row)
    return ScoredResponses(
        prompt=user_prompt(_question(row, "")),
        responses=[_response(row, f"answer_{side}", f"score_{side}", "") for side in (0, 1)],
    )


def _two_records(row: Row) -> ScoredResponses:
    records = [as_object(record, f"records.{index}") for index, record in enumerate(required_list(row, "records"))]
    if len(records) != 2:
        raise RowError("wrong_type", "records", f"the line has {len(records)} records, not two.")
    questions = [_question(record, f"records.{index}.") for index, record in enumerate(records)]
    if questions[0] != questions[1]:
        raise RowError("prompts_diverge", "records", "the two records have different questions.")
    responses = [_response(record, "answer", "score", f"records.{index}.") for index, record in enumerate(records)]
    return ScoredResponses(prompt=user_prompt(questions[0]), responses=responses)


def _question(record: Row, path: str) -> str:
    return required_text(required_object(record, "question", path), "full_text", f"{path}question.")


def _response(record: Row, answer: str, score: str, path: str) -> Response:
    return Response(
        content=[assistant(required_text(record, answer, path))], score=required_number(record, score, path)
    )


def looks_like(row: Row) -> bool:
    """Return True if the records are those of OpenAI's file, or the question is an object."""
    if "records" in row:
        return objects_with(row["records"], "question", "answer", "score")
    return isinstance(row["question"], dict) and "full_text" in row["question"]


SOURCE = Source(
    name="webgpt",
    license="unknown",
    homepage="https://huggingface.co/datasets/openai/webgpt_comparisons",
    direction="the answer with the higher score; equal scores are a tie",
    columns=(),
    layouts=(("question", "answer_0", "answer_1", "score_0", "score_1"), ("records",), ("question", "answer", "score")),
    adapt=adapt,
    looks_like=looks_like,
    has_scores=True,
    grouping=Grouping(_group_key, adapt_group),
    download="https://openaipublic.blob.core.windows.net/webgpt-answer-viewer/comparisons.jsonl",
)
