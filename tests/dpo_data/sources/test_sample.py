"""The embedded sample: made anew it is the same, and it shows every kind of bad row."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dpo_data.sample
from dpo_data import convert
from dpo_data.checks import DATASET_CHECKS, ROW_CHECKS
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


def test_the_sample_has_a_row_for_every_reason_to_be_quarantined(converted):
    errors = {check.code for check in ROW_CHECKS if check.severity == "error"}
    # Text keeps every byte: nothing is not recoverable. The others are for rows with scores, parents or messages.
    elsewhere = {"not_recoverable", "contradicting_scores", "no_parent", "no_text_form", "unknown_label"}
    assert set(converted["text"].quarantined_by_code) == {*ROW_ERRORS, *errors} - elsewhere


def test_the_sample_has_a_row_for_every_warning(converted):
    warnings = [check.code for check in ROW_CHECKS if check.severity == "warning"]
    warnings += [check.code for check in DATASET_CHECKS]
    # Younger than the sample, whose bytes stay; the fault corpus has their rows.
    elsewhere = {"template_marker", "eos_in_response", "scores_against_label", "preference_cycle"}
    assert list(converted["text"].warnings) == [code for code in warnings if code not in elsewhere]


@pytest.mark.parametrize("form", ["text", "conversational"])
def test_the_sample_is_mostly_good_and_has_both_splits(converted, form):
    manifest = converted[form]
    assert manifest.status == "complete"
    assert manifest.rows_read == manifest.pairs + manifest.quarantined
    assert manifest.splits["train"].pairs > 300
    assert manifest.splits["test"].pairs > 50
