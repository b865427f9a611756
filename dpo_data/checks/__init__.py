"""What can be wrong with pairs: one check a file, one line here.

A row check is a pure function of one pair and answers with a `Finding` or None. A dataset check reads row keys alone.
The deep ones cost more than all else that convert does, need libraries of the extra `checks`, or both.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from dpo_data.checks.bad_characters import BAD_CHARACTERS
from dpo_data.checks.check import DatasetCheck, Finding, RowCheck, Severity
from dpo_data.checks.contamination import CONTAMINATION
from dpo_data.checks.contradiction import CONTRADICTION
from dpo_data.checks.cut_off_response import CUT_OFF_RESPONSE
from dpo_data.checks.duplicate_pair import DUPLICATE_PAIR
from dpo_data.checks.empty_prompt import EMPTY_PROMPT
from dpo_data.checks.empty_response import EMPTY_RESPONSE
from dpo_data.checks.eos_in_response import EOS_IN_RESPONSE
from dpo_data.checks.identical_responses import IDENTICAL_RESPONSES
from dpo_data.checks.language_mismatch import LANGUAGE_MISMATCH
from dpo_data.checks.near_duplicate_prompt import NEAR_DUPLICATE_PROMPT
from dpo_data.checks.near_identical_responses import NEAR_IDENTICAL_RESPONSES
from dpo_data.checks.near_prompt_in_two_splits import NEAR_PROMPT_IN_TWO_SPLITS
from dpo_data.checks.one_response_for_many_prompts import ONE_RESPONSE_FOR_MANY_PROMPTS
from dpo_data.checks.personal_data import PERSONAL_DATA
from dpo_data.checks.preference_cycle import PREFERENCE_CYCLE
from dpo_data.checks.prompt_in_two_splits import PROMPT_IN_TWO_SPLITS
from dpo_data.checks.refusal_against_refusal import REFUSAL_AGAINST_REFUSAL
from dpo_data.checks.repeated_role import REPEATED_ROLE
from dpo_data.checks.response_repeats_prompt import RESPONSE_REPEATS_PROMPT
from dpo_data.checks.role_marker_in_response import ROLE_MARKER_IN_RESPONSE
from dpo_data.checks.scores_against_label import SCORES_AGAINST_LABEL
from dpo_data.checks.swapped_duplicate import SWAPPED_DUPLICATE
from dpo_data.checks.template_marker import TEMPLATE_MARKER
from dpo_data.errors import ROW_ERRORS, UsageError
from dpo_data.records import PreferencePair

ROW_CHECKS: tuple[RowCheck, ...] = (
    EMPTY_PROMPT,
    EMPTY_RESPONSE,
    IDENTICAL_RESPONSES,
    REPEATED_ROLE,
    ROLE_MARKER_IN_RESPONSE,
    BAD_CHARACTERS,
    RESPONSE_REPEATS_PROMPT,
    TEMPLATE_MARKER,
    EOS_IN_RESPONSE,
    SCORES_AGAINST_LABEL,
)
DATASET_CHECKS: tuple[DatasetCheck, ...] = (DUPLICATE_PAIR, CONTRADICTION, PREFERENCE_CYCLE, PROMPT_IN_TWO_SPLITS)
#: Those that convert has no time for; validate runs them when asked.
DEEP_ROW_CHECKS: tuple[RowCheck, ...] = (
    NEAR_IDENTICAL_RESPONSES,
    CUT_OFF_RESPONSE,
    REFUSAL_AGAINST_REFUSAL,
    LANGUAGE_MISMATCH,
    PERSONAL_DATA,
)
DEEP_DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    SWAPPED_DUPLICATE,
    NEAR_DUPLICATE_PROMPT,
    NEAR_PROMPT_IN_TWO_SPLITS,
    ONE_RESPONSE_FOR_MANY_PROMPTS,
)
#: Code to hint, in the order of reports.
CHECK_HINTS = {
    check.code: check.hint
    for checks in (ROW_CHECKS, DATASET_CHECKS, DEEP_ROW_CHECKS, DEEP_DATASET_CHECKS, (CONTAMINATION,))
    for check in checks
}

__all__ = [
    "CHECK_HINTS",
    "DATASET_CHECKS",
    "DEEP_DATASET_CHECKS",
    "DEEP_ROW_CHECKS",
    "ROW_CHECKS",
    "DatasetCheck",
    "Finding",
    "RowCheck",
    "Severity",
    "run_row_checks",
    "select_row_checks",
]


def run_row_checks(pair: PreferencePair, checks: Iterable[RowCheck]) -> list[tuple[RowCheck, Finding]]:
    """What the checks find in one pair, up to the first error, which is then the last of the list."""
    findings = []
    texts = pair.texts
    for check in checks:
        if finding := check.find(pair, texts):
            findings.append((check, finding))
            if check.severity == "error":
                break
    return findings


def select_row_checks(forbid: Collection[str] = (), allow: Collection[str] = ()) -> tuple[RowCheck, ...]:
    """The row checks with the severities that a user asks for: `forbid` makes errors of them, `allow` warnings.

    Raises: UsageError: a code is no row check's, or stands in both.
    """
    known = {check.code for check in ROW_CHECKS}
    for code in [*forbid, *allow]:
        if code in ROW_ERRORS:
            raise UsageError(f"{code} cannot be allowed or forbidden: there is no pair to keep in such a row.")
        if code not in known:
            raise UsageError(f"{code} is not the code of a row check.\n  Row checks: {', '.join(sorted(known))}.")
    if both := sorted(set(forbid) & set(allow)):
        raise UsageError(f"{', '.join(both)}: both forbidden and allowed. Name each code once.")
    moved: dict[str, Severity] = {**dict.fromkeys(forbid, "error"), **dict.fromkeys(allow, "warning")}
    return tuple(replace(check, severity=moved.get(check.code, check.severity)) for check in ROW_CHECKS)
