"""Phrases about findings that the terminal and the pages share.

Imports nothing of tokens, which convert does not need.
"""

from collections.abc import Mapping

from dpo_data.inspect.verdict import LEAKS
from dpo_data.options import Severity


def verdict(worst: Severity | None) -> str:
    """Return the result of a validation in one sentence."""
    return {"error": "Errors found.", "warning": "Warnings, but no errors.", None: "Nothing found."}[worst]


def finding_rows(code: str, rows: int, splits: Mapping[str, int]) -> str:
    """Return the number of rows of a finding; for a prompt in both splits, also their share of the test split."""
    test = splits.get("test", 0)
    return f"{rows:,} ({rows / test:.1%} of test)" if code in LEAKS and test else f"{rows:,}"
