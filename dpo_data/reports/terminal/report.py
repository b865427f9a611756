"""Terminal output of `dpo-data report`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.conversion.card import row_balance
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.statistics.models import RuleScore, Statistics, Truncation
from dpo_data.inspect.statistics.rules import LONGER_WINS
from dpo_data.prepared.manifest import Manifest
from dpo_data.records import FIELDS
from dpo_data.reports.findings import finding_rows
from dpo_data.reports.numbers import number
from dpo_data.reports.phrases import CUT_BY_TOKENS, gap_name, noise_headline
from dpo_data.reports.terminal.tables import SEVERITY_STYLE, count_and_share, counts_table, lengths_table, plain_table
from dpo_data.reports.terminal.validate import verdict_lines
from dpo_data.shaping.card import step_balance


def _balance(manifest: Manifest) -> str:
    return row_balance(manifest) if manifest.made_by == "convert" else step_balance(manifest)


def data_report(report: DataReport, page: Path) -> RenderableType:
    """Return a summary of the report, and the path of its page."""
    statistics = report.statistics
    parts: list[RenderableType] = [
        Text.assemble((report.path, "bold"), f": {_balance(report.manifest)}"),
        *verdict_lines(report.validation.verdict),
    ]
    if report.manifest.status == "rejected":
        parts.append(Text("Rejected: no trainer accepts this data.", style="bold red"))
    if report.validation.findings:
        findings = plain_table("finding", "severity", "rows", text_columns={"severity"})
        for code, finding in report.validation.findings.items():
            rows = finding_rows(code, finding.rows, report.validation.splits)
            findings.add_row(code, Text(finding.severity, SEVERITY_STYLE[finding.severity]), rows)
        parts.append(findings)
    for unit, lengths in (("characters", statistics.characters), ("tokens", statistics.tokens)):
        if lengths:
            sides = {side: getattr(lengths, side) for side in FIELDS}
            parts.append(lengths_table(unit, sides, ("mean", "p5", "median", "p95", "max")))
    if statistics.by is not None:
        parts.append(counts_table(statistics.by, "pairs", statistics.pairs_by_value))
    parts.append(_rules(statistics))
    if statistics.lengths:
        share = statistics.lengths.chosen_longer / statistics.pairs
        parts.append(Text(f"Chosen is longer than rejected in {share:.1%} of the pairs."))
    parts.append(Text(noise_headline(statistics.label_noise)))
    if statistics.truncation:
        parts.append(_truncation(statistics.truncation))
        if report.manifest.form == "conversational":
            parts.append(Text(CUT_BY_TOKENS))
    parts.append(Text(f"Report: {page}", style="bold"))
    return Group(*parts)


def _rules(statistics: Statistics) -> RenderableType:
    table = plain_table("rule", "accuracy", "95% interval", "decided", "coverage")
    for rule in statistics.rules:
        table.add_row(rule.rule, *_score(rule.overall))
        if not rule.overall.decided:
            continue
        gaps = statistics.lengths.by_gap if statistics.lengths and rule.rule == LONGER_WINS else []
        for gap in gaps:
            table.add_row(f"  {gap_name(gap)} characters", *_score(gap.score))
        for file, score in rule.by_file.items() if len(rule.by_file) > 1 else ():
            table.add_row(Text(f"  in {file}"), *_score(score))
        for value, score in rule.by_value.items():
            table.add_row(Text(f"  {statistics.by} {value}"), *_score(score))
        for bin_ in rule.by_margin if len(rule.by_margin) > 1 else ():
            table.add_row(f"  margin {number(bin_.low)} to {number(bin_.high)}", *_score(bin_.score))
    return table


def _score(score: RuleScore) -> tuple[str, str, str, str]:
    if score.accuracy is None:
        return "–", "–", "0", "0.0%"
    return f"{score.accuracy:.1%}", f"{score.low:.1%} – {score.high:.1%}", f"{score.decided:,}", f"{score.coverage:.1%}"


def _truncation(entries: Sequence[Truncation]) -> RenderableType:
    """Return a table with one row per length and mode."""
    columns = {
        "prompt tokens lost": "prompt_tokens_lost",
        "chosen losing its end": "chosen_losing_end",
        "rejected losing its end": "rejected_losing_end",
        "only one of them": "one_side_losing_end",
        "response tokens lost": "response_tokens_lost",
        "identical": "identical",
    }
    table = plain_table("max length", "mode", "pairs cut", *columns, text_columns={"mode"})
    for entry in entries:
        counts = (f"{getattr(entry, name):,}" for name in columns.values())
        cut = count_and_share(entry.pairs_cut, max(1, entry.pairs))
        table.add_row(f"{entry.max_length:,}", entry.truncation_mode, cut, *counts)
    return table
