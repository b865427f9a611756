"""The verdict on a dataset, findings with ids, and the share of test that is in train."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared, report, validate
from dpo_data.inspect.verdict import CodeFinding, judge

CASES = Path(__file__).parents[2] / "fixtures" / "cases"


def warning(rows: int, **more: Any) -> CodeFinding:
    return CodeFinding(severity="warning", rows=rows, hint="Fix it.", examples=[], **more)


def error(rows: int) -> CodeFinding:
    return CodeFinding(severity="error", rows=rows, hint="Fix it.", examples=[])


@pytest.mark.parametrize(
    ("findings", "summary"),
    [
        ({}, "Fit to train on."),
        ({"a": warning(9)}, "Fit to train on, with one finding in less than 1% of the rows."),
        ({"a": warning(9), "b": error(9)}, "Fit to train on, with 2 findings, each in less than 1% of the rows."),
    ],
)
def test_data_with_few_findings_is_fit(findings, summary):
    verdict = judge(rows=1000, pairs=1000, damage={}, findings=findings)
    assert (verdict.fit, verdict.summary, verdict.first) == (True, summary, [])


def test_the_three_most_important_things_come_first():
    findings = {
        "common": warning(500),
        "less_common": warning(200),
        "prompt_in_two_splits": warning(1, share_of_test=0.01),
        "invalid": error(30),
        "rare": warning(1),
    }
    verdict = judge(rows=1000, pairs=1000, damage={}, findings=findings)
    assert (verdict.fit, verdict.summary) == (False, "Not fit to train on yet. Do this first (1 more below):")
    assert verdict.first == [
        "invalid in 30 rows (3.0%). Fix it.",
        "prompt_in_two_splits in 1 row (1.0% of test). Fix it.",
        "common in 500 rows (50.0%). Fix it.",
    ]


def test_damage_comes_before_everything():
    verdict = judge(rows=10, pairs=10, damage={"README.md": "is missing"}, findings={"a": error(9)})
    assert verdict.first[0] == "README.md is missing: make the folder again."


def test_data_without_pairs_is_not_fit():
    assert not judge(rows=5, pairs=0, damage={}, findings={}).fit


def test_validate_and_report_begin_with_the_verdict(make_prepared, dpo_data):
    folder = make_prepared([{"prompt": f"Q{n}? ", "chosen": "yes", "rejected": "no"} for n in range(3)])
    for command in ("validate", "report"):
        _, out, _ = dpo_data(command, folder)
        assert out.splitlines()[1] == "Fit to train on."
    glued = make_prepared([{"prompt": "Q?", "chosen": "yes", "rejected": "no"}], "glued")
    hint = (
        "The model would read them as one word: convert with --form conversational, or separate them in the raw file."
    )
    for command in ("validate", "report"):
        _, out, _ = dpo_data(command, glued)
        assert out.splitlines()[1:3] == [
            "Not fit to train on yet. Do this first:",
            f"  1. glued_text in 1 row (100.0%). {hint}",
        ]
    assert json.loads(dpo_data("validate", glued, "--json")[1])["verdict"]["fit"] is False


@pytest.fixture
def leaky(tmp_path):
    """The rows of the cases with copies, contradictions, a cycle and a leak."""
    raw = [CASES / f"dup_{split}.jsonl" for split in ("train", "test")]
    convert("pairs", raw, output=tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_copies_contradictions_cycles_and_leaks_are_counted_in_any_reading_order(tmp_path, order):
    manifest = convert("pairs", [CASES / f"dup_{split}.jsonl" for split in order], output=tmp_path / "out")
    assert {code: found.rows for code, found in manifest.warnings.items()} == {
        "duplicate_pair": 1,
        "contradiction": 1,
        "preference_cycle": 1,
        "prompt_in_two_splits": 1,
    }
    assert manifest.warnings["prompt_in_two_splits"].examples == [
        "cases/dup_test.jsonl:1: the prompt is also in another split (cases/dup_train.jsonl:5)."
    ]
    assert manifest.judgments is None


def test_the_share_of_test_that_is_in_train_is_said(leaky, dpo_data, tmp_path):
    assert validate(leaky).findings["prompt_in_two_splits"].share_of_test == 1.0
    _, out, _ = dpo_data("validate", leaky)
    assert "1 (100.0% of test)" in out
    raw = [word for split in ("train", "test") for word in ("--input", CASES / f"dup_{split}.jsonl")]
    _, out, _ = dpo_data("convert", "pairs", *raw, "--output", tmp_path / "again")
    assert "1 (100.0% of test)" in out
    assert report(leaky).statistics.label_noise is None


def test_every_finding_is_written_with_the_id_of_its_pair(leaky, tmp_path, dpo_data):
    code, _, _ = dpo_data("validate", leaky, "--findings", tmp_path / "found.jsonl")
    assert code == 0
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    ids = {
        row["origin"]: row["id"]
        for split in ("train", "test")
        for batch in open_prepared(leaky).batches(split)
        for row in batch.to_pylist()
    }
    train, test = "cases/dup_train.jsonl", "cases/dup_test.jsonl"
    assert [(line["code"], line["severity"], line["origin"], line["id"]) for line in lines] == [
        ("duplicate_pair", "warning", f"{train}:2", ids[f"{train}:2"]),
        ("contradiction", "warning", f"{train}:4", ids[f"{train}:4"]),
        ("preference_cycle", "warning", f"{train}:8", ids[f"{train}:8"]),
        ("prompt_in_two_splits", "warning", f"{test}:1", ids[f"{test}:1"]),
    ]
    assert lines[0]["message"] == f"the same prompt, chosen and rejected as an earlier row ({train}:1)."


def test_the_file_has_all_findings_and_the_report_the_first_few(make_prepared, tmp_path):
    rows = [{"prompt": f"Q{n}?", "chosen": "yes", "rejected": "no"} for n in range(30)]
    folder = make_prepared([*rows, *rows])
    found = validate(folder, findings=tmp_path / "found.jsonl").findings
    assert {code: (finding.rows, len(finding.examples), len(finding.ids)) for code, finding in found.items()} == {
        "glued_text": (60, 5, 5),
        "duplicate_pair": (30, 5, 5),
    }
    lines = [json.loads(line) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len(lines) == 90
    assert len({line["origin"] for line in lines if line["code"] == "glued_text"}) == 60


def test_rows_in_quarantine_of_raw_pairs_are_written_without_an_id(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [{"prompt": "Q? ", "chosen": "", "rejected": "no"}])
    validate(raw, findings=tmp_path / "found.jsonl")
    (line,) = map(json.loads, (tmp_path / "found.jsonl").read_text().splitlines())
    assert (line["code"], line["severity"], line["id"], line["message"]) == (
        "empty_response",
        "error",
        None,
        "chosen is empty.",
    )
