"""Judgments of one pair by several judges, in the counts of a conversion."""

import pytest

from dpo_data import convert
from dpo_data.checks.judgments import judge_of
from dpo_data.prepared.manifest import JudgmentCounts


def row(number: int, chosen: str = "a", rejected: str = "b", **more: object) -> dict[str, object]:
    return {"prompt": f"Question {number}?", "chosen": chosen, "rejected": rejected, **more}


@pytest.mark.parametrize(
    "column", ["annotator", "annotator_id", "Annotator", "worker", "judge", "rater", "labeler_name"]
)
def test_a_column_may_name_the_judge(column):
    assert judge_of({column: "Ann"}) == judge_of({column: "Ann", "prompt": "Hi"}) != judge_of({column: "Bob"})


def test_rows_may_name_no_judge():
    assert judge_of({"prompt": "Hi", "judgment": "a"}) is None
    assert judge_of({"annotator": None, "worker": ""}) is None


def test_judgments_of_several_judges_are_counted(tmp_path, write_rows):
    rows = [
        *[row(1, worker=worker) for worker in (1, 2, 2)],  # two judges, of whom one has a copy
        *[row(2, worker=1), row(2, "b", "a", worker=2), row(2, worker=3)],  # two of three comparisons disagree
        *[row(3, worker=1), row(3, worker=1)],  # a copy
        *[row(4), row(4), row(4, "b", "a")],  # no judges
    ]
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", rows), output=tmp_path / "out")
    assert manifest.judgments == JudgmentCounts(repeated=2, judgments=5, disputed=1, disagreements=2 / 3)
    assert not (tmp_path / "out" / "judgments").exists()


def test_without_judges_nothing_is_counted(tmp_path, write_rows):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", [row(1), row(1)]), output=tmp_path / "out")
    assert manifest.judgments is None


def test_workers_of_summarize_from_feedback_are_judges(tmp_path, write_rows):
    post = {"post": "P", "title": "T", "subreddit": "s"}
    rows = [
        {"info": post, "summaries": [{"text": " x"}, {"text": " y"}], "choice": choice, "worker": worker}
        for worker, choice in (("w1", 0), ("w2", 0), ("w3", 1))
    ]
    raw = write_rows(tmp_path / "a.jsonl", rows)
    counts = convert("summarize-from-feedback", raw, output=tmp_path / "out").judgments
    assert counts is not None
    assert (counts.repeated, counts.judgments, counts.disputed) == (1, 3, 1)
