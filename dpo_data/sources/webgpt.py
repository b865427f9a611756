"""openai/webgpt_comparisons: a question, two answers with quotes from the web, and a score from -1 to 1 for each.

OpenAI's comparisons.jsonl has a list of two records in each line, {question, quotes, answer, tokens, score}; the Hub's
viewer has them as one record with answer_0, answer_1, score_0 and score_1. Both are read. Equal scores are a tie. The
quotes differ between the two answers, so they are not part of the prompt, which both share. Citations such as "[1]"
stay in the answers, because the annotators saw them. The Hub repository has a loading script instead of files.
Records as read by open-instruct's webgpt.py, and as described in appendix K of the paper (arXiv:2112.09332).
"""

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
from dpo_data.sources.source import Source, SourceOptions


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


SOURCE = Source(
    name="webgpt",
    license="unknown",
    homepage="https://huggingface.co/datasets/openai/webgpt_comparisons",
    direction="the answer with the higher score; equal scores are a tie",
    columns=(),
    layouts=(("question", "answer_0", "answer_1", "score_0", "score_1"), ("records",)),
    adapt=adapt,
    looks_like=lambda row: "records" not in row or objects_with(row["records"], "question", "answer", "score"),
    has_scores=True,
    download="https://openaipublic.blob.core.windows.net/webgpt-answer-viewer/comparisons.jsonl",
)
