"""Findings by code, and the verdict on a dataset in words: fit to train on, or what to do first."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from dpo_data.errors import writing
from dpo_data.options import Severity
from dpo_data.prepared.manifest import ManifestModel

_EXAMPLE = re.compile(r"(.*?:\d+): (.*)", re.DOTALL)
#: Things to do first that are named.
MAX_STEPS = 3
#: Share of the pairs from which on a warning is one of them.
MIN_SHARE = 0.01
#: Findings about test rows that training would see.
LEAKS = ("prompt_in_two_splits", "near_prompt_in_two_splits")
#: Warnings that spoil training or evaluation, whatever their share.
GRAVE = (*LEAKS, "one_sided_marker", "contamination")


class CodeFinding(ManifestModel):
    """Findings of one check."""

    severity: Severity
    rows: NonNegativeInt
    hint: str
    examples: Annotated[list[str], Field(description="file:row and what is wrong there; the first few.")]
    ids: list[str] = Field(
        default_factory=list, description="Ids of the pairs in `examples`; rows in quarantine have none."
    )
    share_of_test: Annotated[
        float | None, Field(description="Share of the test split that it is about, for prompts in both splits.")
    ] = None

    def with_examples(self, count: int) -> "CodeFinding":
        """Return the findings with the first examples alone."""
        return self.model_copy(update={"examples": self.examples[:count], "ids": self.ids[:count]})


class Verdict(ManifestModel):
    """A verdict on the fitness of a dataset for training."""

    fit: bool
    summary: Annotated[str, Field(description="The verdict in one sentence.")]
    first: list[str] = Field(default_factory=list, description="What to do first, at most three things.")


def judge(*, rows: int, pairs: int, damage: Mapping[str, str], findings: Mapping[str, CodeFinding]) -> Verdict:
    """Return the verdict on a dataset.

    Args:
        rows: number of its raw rows.
        pairs: number of its pairs.
        damage: file to what is wrong with it.
        findings: code to findings.
    """
    steps = list(_steps(rows, pairs, damage, findings))
    if steps:
        more = f" ({len(steps) - MAX_STEPS} more below)" if len(steps) > MAX_STEPS else ""
        return Verdict(fit=False, summary=f"Not fit to train on yet. Do this first{more}:", first=steps[:MAX_STEPS])
    if findings:
        codes = "one finding" if len(findings) == 1 else f"{len(findings)} findings, each"
        return Verdict(fit=True, summary=f"Fit to train on, with {codes} in less than 1% of the rows.")
    return Verdict(fit=True, summary="Fit to train on.")


def _steps(rows: int, pairs: int, damage: Mapping[str, str], findings: Mapping[str, CodeFinding]) -> Iterator[str]:
    """Yield what to do, the most important things first."""
    for file, text in damage.items():
        yield f"{file} {text}: make the folder again."
    if not pairs and not findings:
        yield "There are no pairs: see the quarantine, and convert other rows."

    def rank(item: tuple[str, CodeFinding]) -> tuple[bool, bool, int]:
        code, finding = item
        return finding.severity != "error", code not in GRAVE, -finding.rows

    for code, finding in sorted(findings.items(), key=rank):
        total = rows if finding.severity == "error" else pairs
        if code in GRAVE or finding.rows >= MIN_SHARE * total:
            yield f"{code} in {rows_in_words(finding, total)}. {finding.hint}"


def rows_in_words(finding: CodeFinding, total: int) -> str:
    """Return the number of rows of a finding, and their share of all rows.

    >>> rows_in_words(CodeFinding(severity="warning", rows=3, hint="", examples=[]), 12)
    '3 rows (25.0%)'
    """
    rows = "1 row" if finding.rows == 1 else f"{finding.rows:,} rows"
    if finding.share_of_test is not None:
        return f"{rows} ({finding.share_of_test:.1%} of test)"
    return f"{rows} ({finding.rows / max(1, total):.1%})"


def write_findings(path: Path, findings: Mapping[str, CodeFinding]) -> None:
    """Write one JSON line for each example of the findings: code, severity, origin, id of the pair, and message.

    Raises: UsageError: the file cannot be written.
    """
    with writing(path), path.open("w", encoding="utf-8") as file:
        for code, finding in findings.items():
            ids: Sequence[str | None] = finding.ids or [None] * len(finding.examples)
            for example, id_ in zip(finding.examples, ids, strict=True):
                origin, message = split_example(example)
                line = {"code": code, "severity": finding.severity, "origin": origin, "id": id_, "message": message}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def split_example(example: str) -> tuple[str, str]:
    """Return the origin and the message of an example of a finding.

    >>> split_example("raw/a: b.jsonl:3: chosen is empty.")
    ('raw/a: b.jsonl:3', 'chosen is empty.')
    """
    match = _EXAMPLE.match(example)
    return (match[1], match[2]) if match else ("", example)
