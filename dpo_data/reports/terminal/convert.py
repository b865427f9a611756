"""Terminal output of `dpo-data convert`."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.prepared.manifest import Manifest
from dpo_data.reports.findings import finding_rows
from dpo_data.reports.terminal.tables import counts_table, plain_table


def conversion(manifest: Manifest, folder: Path) -> RenderableType:
    """Return what became of every raw row."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{manifest.rows_read:,}", "bold"),
            " rows read = ",
            *_kept(manifest),
            " + ",
            (f"{manifest.quarantined:,}", "bold red" if manifest.quarantined else "bold"),
            " in quarantine",
            f" + {manifest.left_out:,} left out" if manifest.left_out else "",
        )
    ]
    if manifest.skipped:
        many = len(manifest.skipped) > 1
        parts.append(
            Text(
                f"{len(manifest.skipped):,} folder{'s' if many else ''} below the inputs {'were' if many else 'was'} "
                f"not read: {', '.join(manifest.skipped)}. dpo-data writes {'them' if many else 'it'}; convert one "
                "again by naming it as an input."
            )
        )
    if manifest.form_reason is not None:
        parts.append(Text(f"Form: {manifest.form} ({manifest.form_reason}). --form overrides this."))
    shown = ("pairs", "quarantined", "left_out") if manifest.left_out else ("pairs", "quarantined")
    splits = plain_table("split", *(name.replace("_", " ") for name in shown))
    for name, split in manifest.splits.items():
        splits.add_row(name, *(f"{getattr(split, column):,}" for column in shown))
    parts.append(splits)
    for title, unit, counts in (
        ("left out because", "rows", manifest.left_out_by_reason),
        ("in no pair because", "pairs or responses", manifest.pairs_left_out),
        ("unused column", "rows", manifest.unused_columns),
        ("in quarantine because", "rows", manifest.quarantined_by_code),
    ):
        if counts:
            parts.append(counts_table(title, unit, counts))
    if manifest.quarantined:
        parts.append(Text(f"Each with its raw row and a hint: {folder / 'quarantine'}", style="dim"))
    if manifest.warnings:
        pairs = {name: split.pairs for name, split in manifest.splits.items()}
        warnings = plain_table("kept with a warning", "rows", "for example", text_columns={"for example"})
        for code, warned in manifest.warnings.items():
            warnings.add_row(code, finding_rows(code, warned.rows, pairs), Text(warned.examples[0]))
        parts.append(warnings)
    misfits = {name: column.misfits for name, column in manifest.kept_columns.items() if column.misfits}
    if misfits:
        parts.append(counts_table("kept column, null where a value does not fit", "values", misfits))
    if manifest.redacted:
        parts.append(counts_table("placeholder for", "times", manifest.redacted))
    if manifest.status == "rejected":
        share = manifest.quarantined / manifest.rows_read
        parts.append(
            Text(
                f"Rejected: {share:.1%} of the rows are in quarantine, over --max-invalid "
                f"{manifest.options.max_invalid:.1%}. Everything is written for you to look at, "
                "but no trainer will take it.",
                style="bold red",
            )
        )
    else:
        parts.append(Text(f"Prepared folder: {folder}", style="bold"))
    return Group(*parts)


def _kept(manifest: Manifest) -> list[str | tuple[str, str]]:
    pairs = (f"{manifest.pairs:,}", "bold green")
    if manifest.pairs == manifest.rows_paired:
        return [pairs, " pairs"]
    return [f"{manifest.rows_paired:,} that gave ", pairs, " pairs"]
