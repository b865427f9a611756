"""Terminal output of the commands that write a prepared folder from prepared folders."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.prepared.manifest import Manifest, StepEntry
from dpo_data.reports.terminal.tables import counts_table, plain_table
from dpo_data.shaping.build import BuildResult, BuiltFolder
from dpo_data.shaping.card import step_balance


def shaped(manifest: Manifest, folder: Path) -> RenderableType:
    """Return what became of every pair."""
    parts: list[RenderableType] = [Text(step_balance(manifest), style="bold")]
    made_by = manifest.made_by
    if isinstance(made_by, StepEntry):
        if len(made_by.parents) > 1:
            parts.append(counts_table("from", "pairs", {parent.name: parent.pairs for parent in made_by.parents}))
        splits = plain_table("split", "pairs", "left out")
        for name, split in manifest.splits.items():
            splits.add_row(name, f"{split.pairs:,}", f"{split.left_out:,}")
        parts.append(splits)
        if made_by.left_out:
            parts.append(counts_table("left out because", "pairs", made_by.left_out))
        counts = {"changed": made_by.changed, "moved to another split": made_by.moved}
        if any(counts.values()):
            parts.append(counts_table("of the pairs kept", "pairs", {name: n for name, n in counts.items() if n}))
        parts += [Text(note) for note in made_by.notes]
    parts.append(Text(f"Prepared folder: {folder}", style="bold"))
    return Group(*parts)


def built(result: BuildResult) -> RenderableType:
    """Return the folders of a build."""
    table = plain_table("folder", "step", "", "pairs", text_columns={"step", ""})
    for folder in result.folders:
        why = f" ({folder.reason})" if folder.reason else ""
        pairs = "" if folder.pairs is None else f"{folder.pairs:,}"
        table.add_row(Text(folder.path), folder.verb, Text(f"{folder.action}{why}"), pairs)
    tokens = [Text(f"Tokens of {name}: {path}") for name, path in result.tokens.items()]
    return Group(table, *tokens)


def built_folder(folder: BuiltFolder) -> str:
    """Return one line about a folder that is done."""
    pairs = "" if folder.pairs is None else f": {folder.pairs:,} pairs"
    return f"{folder.name} ({folder.verb}) {folder.action}{pairs}"
