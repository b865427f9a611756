"""Terminal output of `dpo-data export` and of `dpo-data validate --as`."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.exports import load_export
from dpo_data.exports.export import export_balance
from dpo_data.exports.format import KINDS
from dpo_data.exports.report import ExportReport, FormatReport
from dpo_data.reports.terminal.tables import counts_table, plain_table


def export_report(report: ExportReport, folder: Path) -> RenderableType:
    """Return what became of every pair."""
    target = load_export(report.target)
    parts: list[RenderableType] = [Text(f"{export_balance(report)}.", style="bold")]
    files = plain_table("split", "pairs", "lines", "file", text_columns={"file"})
    for split, file in report.files.items():
        files.add_row(split, f"{file.pairs:,}", f"{file.lines:,}", Text(str(folder / file.file)))
    parts.append(files)
    if report.left_out:
        parts.append(counts_table("left out because", "lines", report.left_out))
    if report.lost:
        parts.append(counts_table("lost", "pairs", {KINDS[kind]: count for kind, count in report.lost.items()}))
    parts += _cautions(report.target, report.cautions)
    parts += [Text(note, style="yellow") for note in report.warnings]
    parts.append(Text(f"For {report.reader}. {target.usage}"))
    return Group(*parts)


def format_report(report: FormatReport) -> RenderableType:
    """Return what is wrong with a file of a format."""
    parts: list[RenderableType] = [
        Text(
            f"{report.path}: {report.lines:,} lines = {report.valid:,} that {report.reader} takes "
            f"(layout {report.layout}) + {report.lines - report.valid:,} that break a rule.",
            style="bold",
        )
    ]
    if report.findings:
        findings = plain_table("rule", "lines", "where", text_columns={"where"})
        for code, finding in report.findings.items():
            findings.add_row(code, f"{finding.lines:,}", Text("\n".join(finding.examples[:2])))
        parts.append(findings)
    parts += _cautions(report.target, report.cautions)
    parts += [Text(warning, style="bold red") for warning in report.warnings]
    return Group(*parts)


def _cautions(name: str, counts: dict[str, int]) -> list[RenderableType]:
    texts = {caution.code: caution.text for caution in load_export(name).cautions}
    return (
        [counts_table(f"{name} reads silently otherwise", "lines", {texts[c]: n for c, n in counts.items()})]
        if counts
        else []
    )
