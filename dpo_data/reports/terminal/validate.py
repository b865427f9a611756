"""Terminal output of `dpo-data validate`."""

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.inspect.validation import Quantiles, ValidationReport
from dpo_data.inspect.verdict import Verdict
from dpo_data.reports.findings import finding_rows, verdict
from dpo_data.reports.terminal.tables import (
    SEVERITY_STYLE,
    count_and_share,
    counts_table,
    lengths_table,
    plain_table,
)

#: Examples to print of each finding.
SHOWN_EXAMPLES = 2


def validation(report: ValidationReport) -> RenderableType:
    """Return what `validate` found."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{report.path}", "bold"),
            f": {report.rows_read:,} rows = {_kept_rows(report)} pairs + {report.quarantined:,} in quarantine",
            f" + {report.left_out:,} left out" if report.left_out else "",
            f" ({', '.join(f'{name} {rows:,}' for name, rows in report.splits.items())})" if report.splits else "",
        ),
        *verdict_lines(report.verdict),
    ]
    if report.damage:
        damage = plain_table("damaged", "what is wrong", text_columns={"what is wrong"})
        for file, text in report.damage.items():
            damage.add_row(Text(file), Text(text))
        parts.append(damage)
    if report.findings:
        findings = plain_table("finding", "severity", "rows", "where", text_columns={"severity", "where"})
        for code, finding in report.findings.items():
            found_rows = finding_rows(code, finding.rows, report.splits)
            where = Text("\n".join(finding.examples[:SHOWN_EXAMPLES]))
            findings.add_row(code, Text(finding.severity, SEVERITY_STYLE[finding.severity]), found_rows, where)
            findings.add_row("", "", "", Text(finding.hint, style="dim"))
        parts.append(findings)
    columns = list(Quantiles.model_fields)
    parts.append(lengths_table("characters", report.characters, columns))
    if report.tokens:
        parts.append(lengths_table("tokens", report.tokens, columns))
    if report.cut:
        cut = plain_table("max length", "pairs cut", "responses too long by themselves")
        for entry in report.cut:
            cut.add_row(
                f"{entry.max_length:,}",
                count_and_share(entry.pairs_cut, report.pairs),
                count_and_share(entry.responses_cut, report.pairs),
            )
        parts.append(cut)
    if report.languages:
        languages = plain_table("language", *report.languages)
        for language in dict.fromkeys(name for counts in report.languages.values() for name in counts):
            rows = (counts.get(language, 0) for counts in report.languages.values())
            languages.add_row(language, *(count_and_share(row, report.pairs) for row in rows))
        parts.append(languages)
    if report.personal_data:
        parts.append(counts_table("personal data", "times", report.personal_data))
    for key, comparison in (report.token_comparisons or {}).items():
        found = (
            f"not compared with its text: {comparison.not_compared}"
            if comparison.not_compared
            else f"{comparison.different:,} of {comparison.pairs:,} pairs have other ids than tokenizers gives."
        )
        parts.append(Text(f"Token cache {key}: {found}", style="yellow" if comparison.not_compared else ""))
    if report.chosen_longer is not None:
        parts.append(Text(f"Chosen is longer than rejected in {report.chosen_longer:.1%} of the pairs."))
    styles = {"error": "bold red", "warning": "bold yellow", None: "bold green"}
    parts.append(Text(verdict(report.worst()), style=styles[report.worst()]))
    return Group(*parts)


def verdict_lines(found: Verdict | None) -> list[RenderableType]:
    """Return a verdict: one line, and one for each thing to do first."""
    if found is None:
        return []
    lines: list[RenderableType] = [Text(found.summary, style="bold green" if found.fit else "bold red")]
    return lines + [Text(f"  {number}. {step}") for number, step in enumerate(found.first, 1)]


def _kept_rows(report: ValidationReport) -> str:
    rows = report.rows_read - report.quarantined - report.left_out
    return f"{report.pairs:,}" if rows == report.pairs else f"{rows:,} that gave {report.pairs:,}"
