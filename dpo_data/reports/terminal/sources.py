"""Terminal output of `dpo-data sources` and `dpo-data sniff`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.reports.terminal.tables import counts_table, plain_table

if TYPE_CHECKING:  # listing the sources loads nothing that detection needs
    from dpo_data.conversion.detect import DetectedSource
    from dpo_data.sources.source import SourceSummary


def sources(entries: Iterable["SourceSummary"]) -> RenderableType:
    """Return all sources, each with the rule that decides which response is preferred."""
    names = ("preferred response", "license", "tested on", "homepage")
    table = plain_table("source", *names, text_columns=names)
    table.columns[0].no_wrap = True
    for entry in entries:
        name = f"{entry.name} (evaluation only)" if entry.eval_only else entry.name
        table.add_row(*map(Text, (name, entry.direction, entry.license, entry.tested_on, entry.homepage)))
    return table


def detected_source(found: "DetectedSource") -> RenderableType:
    """Return the source of a file and what became of its first rows; print the command after it, on a single line."""
    parts: list[RenderableType] = []
    if found.source is None:
        parts.append(Text(f"{found.file}: no source fits. It has: {', '.join(found.columns)}."))
    else:
        others = f" ({', '.join(found.others)} would match too)" if found.others else ""
        parts.append(Text(f"{found.file}: {found.source}{others}. Preference rule: {found.direction}."))
    counts = found.counts
    if counts.rows_read:
        parts.append(
            Text(
                f"Of the first {counts.rows_read:,} rows {counts.rows_paired:,} give {counts.pairs:,} pairs, "
                f"{counts.quarantined:,} go to quarantine, {counts.left_out:,} are left out."
            )
        )
    if counts.reasons:
        parts.append(counts_table("gave no pair because", "rows", counts.reasons))
    if found.example:
        example = plain_table("first pair", "for example", text_columns={"for example"})
        for name, text in found.example.items():
            example.add_row(name, Text(text))
        parts.append(example)
    if found.candidates:
        parts.append(Text("\n".join(["Or, less likely:", *(other.command for other in found.candidates)])))
    if "--label-map" in found.command:
        parts.append(Text("Say what each label means (the answer a or b is better, a tie, or skip the row):"))
    elif not found.complete:
        parts.append(Text("Complete the words in capitals:" if found.source is None else "No row can be read with:"))
    elif found.source is None:
        parts.append(Text("Try:"))
    return Group(*parts)
