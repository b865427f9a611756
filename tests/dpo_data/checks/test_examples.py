"""The registry of checks: every check has its own code, a hint, and an example that `validate` finds."""

import pytest

from dpo_data.checks import CHECKS, CONTAMINATION, DATASET_CHECKS, DEEP_DATASET_CHECKS, DEEP_ROW_CHECKS, ROW_CHECKS
from dpo_data.checks.check import DatasetCheck
from dpo_data.errors import ROW_ERRORS
from dpo_data.inspect.validation import validate

ALL = (*ROW_CHECKS, *DATASET_CHECKS, *DEEP_ROW_CHECKS, *DEEP_DATASET_CHECKS, CONTAMINATION)


def test_codes_are_unique_and_every_check_has_a_summary_and_a_hint():
    codes = [check.code for check in ALL]
    assert len({*codes, *ROW_ERRORS}) == len(codes) + len(ROW_ERRORS)
    assert sorted(CHECKS) == sorted(codes)
    assert all(check.summary and check.hint for check in ALL)


@pytest.mark.parametrize("check", ALL, ids=lambda check: check.code)
def test_validate_finds_the_example_of_every_check(check, tmp_path, write_rows):
    dataset = check.example if isinstance(check, DatasetCheck) else {"train": [check.example]}
    for split, pairs in dataset.items():
        write_rows(tmp_path / "raw" / f"{split}.jsonl", [pair.model_dump(exclude_none=True) for pair in pairs])
    (tmp_path / "evaluation.txt").write_text(CONTAMINATION.example.prompt)
    report = validate(tmp_path / "raw", source="pairs", form="text", deep=True, against=[tmp_path / "evaluation.txt"])
    *_, (split, pairs) = dataset.items()
    assert report.findings[check.code].examples[-1].startswith(f"raw/{split}.jsonl:{len(pairs)}: ")
