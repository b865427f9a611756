"""The embedded sample: its script reproduces it, and it has a row of almost every kind that convert reports."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dpo_data.sample
from dpo_data import convert
from dpo_data.checks import CHECKS
from dpo_data.errors import ROW_ERRORS

SAMPLE = Path(dpo_data.sample.__file__).parent


def test_the_script_writes_the_committed_files(tmp_path):
    script = shutil.copy(SAMPLE / "make_sample.py", tmp_path)
    subprocess.run([sys.executable, script], check=True, cwd="/")
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes(), name


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    return {
        form: convert("hh-rlhf", sample=True, output=tmp_path_factory.mktemp("sample") / form, form=form)
        for form in ("text", "conversational")
    }


def test_the_sample_has_a_row_for_almost_every_quarantine_code(converted):
    # The text form keeps every byte, so it has no not_recoverable; the others need scores, parents, labels or messages.
    impossible = {"not_recoverable", "contradicting_scores", "no_parent", "no_text_form", "unknown_label"}
    impossible |= {"unknown_role", "media_content", "unsupported_field"}
    checks = {"empty_prompt", "empty_response", "identical_responses"}
    assert set(converted["text"].quarantined_by_code) == set(ROW_ERRORS) - impossible | checks


def test_the_sample_has_warnings_about_pairs_and_about_the_dataset_in_the_order_of_reports(converted):
    warnings = [
        "repeated_role",
        "role_marker_in_response",
        "bad_characters",
        "response_repeats_prompt",
        "duplicate_pair",
        "contradiction",
        "prompt_in_two_splits",
    ]
    assert list(converted["text"].warnings) == warnings == [code for code in CHECKS if code in warnings]


@pytest.mark.parametrize("form", ["text", "conversational"])
def test_the_sample_is_mostly_good_and_has_both_splits(converted, form):
    manifest = converted[form]
    assert manifest.status == "complete"
    assert manifest.rows_read == manifest.pairs + manifest.quarantined
    assert manifest.splits["train"].pairs > 300
    assert manifest.splits["test"].pairs > 50
