"""Terminal output of `dpo-data where`."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.inspect.where import PairUse
from dpo_data.reports.terminal.tables import plain_table


def uses(found: Sequence[PairUse]) -> RenderableType:
    """Return the uses of a pair, of which there is at least one."""
    columns = ("where it is", "kind", "pair", "origin", "step", "margin")
    table = plain_table(*columns, text_columns={"kind", "pair", "origin"})
    for use in found:
        table.add_row(
            Text(use.path),
            f"dropped: {use.dropped}" if use.dropped else use.kind,
            use.split if use.index is None else f"{use.split}:{use.index}",
            Text(use.origin),
            "" if use.step is None else f"{use.step:,}",
            "" if use.margin is None else f"{use.margin:+.3f}",
        )
    return Group(Text(found[0].id, style="bold"), table)
