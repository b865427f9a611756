"""Terminal output of `dpo-data where`."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.inspect.where import PairUse
from dpo_data.reports.terminal.tables import plain_table


def uses(found: Sequence[PairUse]) -> RenderableType:
    """Return the uses of a pair, of which there is at least one."""
    columns = ["where it is", "kind", "pair", "origin", "step", "margin"]
    is_mixed = any(use.dataset for use in found)
    if is_mixed:
        columns.insert(3, "dataset")
    table = plain_table(*columns, text_columns={"kind", "pair", "dataset", "origin"})
    for use in found:
        cells: list[str | Text] = [
            Text(use.path),
            Text(_kind(use)),
            (use.split or "") if use.index is None else f"{use.split}:{use.index}",
            Text(use.origin),
            "" if use.step is None else f"{use.step:,}",
            "" if use.margin is None else f"{use.margin:+.3f}",
        ]
        if is_mixed:
            cells.insert(3, Text(use.dataset or ""))
        table.add_row(*cells)
    return Group(Text(found[0].id, style="bold"), table)


def _kind(use: PairUse) -> str:
    """Return what a use is, in words."""
    if use.kind == "left_out":
        return f"left out: {use.dropped}"
    if use.dropped:
        return f"dropped: {use.dropped}"
    return f"{use.kind}: {use.changed}" if use.changed else use.kind
