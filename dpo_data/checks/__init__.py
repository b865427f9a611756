"""Registry of checks: one check per file, one line per check.

A row check is a pure function of one pair. A dataset check compares the keys of all rows. The deep checks are slow or
need the libraries of the extra `checks`, so `convert` does not run them.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from importlib import import_module
from typing import Any

from dpo_data.checks.check import DatasetCheck, Finding, RowCheck
from dpo_data.errors import ROW_ERRORS, UsageError
from dpo_data.options import Severity
from dpo_data.readers.rows import READER_WARNINGS
from dpo_data.records import PreferencePair


def _load(*codes: str) -> tuple[Any, ...]:
    """Return the CHECK of the module that each code names."""
    return tuple(import_module(f"{__name__}.{code}").CHECK for code in codes)


ROW_CHECKS: tuple[RowCheck, ...] = _load(
    "empty_prompt",
    "empty_response",
    "identical_responses",
    "null_response",
    "repeated_role",
    "role_marker_in_response",
    "bad_characters",
    "response_repeats_prompt",
    "glued_text",
    "template_marker",
    "eos_in_response",
    "scores_against_label",
)
DATASET_CHECKS: tuple[DatasetCheck, ...] = _load(
    "duplicate_pair",
    "contradiction",
    "preference_cycle",
    "prompt_in_two_splits",
    "one_sided_marker",
)
#: Run by `validate --deep`.
DEEP_ROW_CHECKS: tuple[RowCheck, ...] = _load(
    "near_identical_responses",
    "cut_off_response",
    "refusal_against_refusal",
    "language_mismatch",
    "personal_data",
)
#: Run by `validate --deep`.
DEEP_DATASET_CHECKS: tuple[DatasetCheck, ...] = _load(
    "swapped_duplicate",
    "near_duplicate_prompt",
    "near_prompt_in_two_splits",
    "one_response_for_many_prompts",
)
#: Run by `validate --against`.
CONTAMINATION: RowCheck = _load("contamination")[0]

#: Every check by its code, in the order of reports.
CHECKS: dict[str, RowCheck | DatasetCheck] = {
    check.code: check
    for checks in (ROW_CHECKS, DATASET_CHECKS, DEEP_ROW_CHECKS, DEEP_DATASET_CHECKS, (CONTAMINATION,))
    for check in checks
}
#: Code of a warning, of a check or a reader -> what to do about it.
CHECK_HINTS = {code: check.hint for code, check in CHECKS.items()} | READER_WARNINGS

__all__ = [
    "CHECKS",
    "CHECK_HINTS",
    "CONTAMINATION",
    "DATASET_CHECKS",
    "DEEP_DATASET_CHECKS",
    "DEEP_ROW_CHECKS",
    "ROW_CHECKS",
    "DatasetCheck",
    "Finding",
    "RowCheck",
    "run_row_checks",
    "select_row_checks",
]


def run_row_checks(pair: PreferencePair, checks: Iterable[RowCheck]) -> list[tuple[RowCheck, Finding]]:
    """Return the findings of the checks in one pair, up to and including the first error."""
    findings = []
    texts = pair.texts
    for check in checks:
        if finding := check.find(pair, texts):
            findings.append((check, finding))
            if check.severity == "error":
                break
    return findings


def select_row_checks(forbid: Collection[str] = (), allow: Collection[str] = ()) -> tuple[RowCheck, ...]:
    """Return the row checks of convert with the severities that the user chose.

    Args:
        forbid: codes that become errors.
        allow: codes that become warnings.

    Raises: UsageError: a code is not that of a row check, or is in both.
    """
    codes = {check.code for check in ROW_CHECKS}
    for code in [*forbid, *allow]:
        if code in ROW_ERRORS:
            raise UsageError(f"{code} cannot be allowed or forbidden, because such a row has no pair to keep.")
        if code not in codes:
            raise UsageError(f"{code} is not the code of a row check.\n  Row checks: {', '.join(sorted(codes))}.")
    if both := sorted(set(forbid) & set(allow)):
        raise UsageError(f"{', '.join(both)}: both forbidden and allowed. Name each code once.")
    severities: dict[str, Severity] = {**dict.fromkeys(forbid, "error"), **dict.fromkeys(allow, "warning")}
    return tuple(replace(check, severity=severities.get(check.code, check.severity)) for check in ROW_CHECKS)
