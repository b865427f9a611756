"""Tables and styles shared by the terminal output of all commands. Markup in texts of the data is not interpreted."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from dpo_data.escapes import visible
from dpo_data.reports.numbers import number
from dpo_data.word_diff import Piece

if TYPE_CHECKING:
    from pydantic import BaseModel

SEVERITY_STYLE = {"error": "red", "warning": "yellow"}
#: Width of side-by-side texts when standard output is not a terminal.
PLAIN_WIDTH = 140


def echo(content: RenderableType, plain_width: int = PLAIN_WIDTH) -> None:
    """Print to standard output; if that is not a terminal, `plain_width` wide, without colors or padding.

    Control characters in texts of the data are made visible.
    """
    console = Console(highlight=False)
    if console.is_terminal:
        # After the layout, so that only the texts are changed, and not the styles of the terminal.
        segments = console.render(content)
        console.print(Segments(segment._replace(text=visible(segment.text)) for segment in segments), end="")
        return
    console.width = plain_width
    with console.capture() as captured:
        console.print(content, soft_wrap=True)
    shown = visible(captured.get().removesuffix("\n"))
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in shown.split("\n")))


def plain_table(*columns: str, text_columns: Collection[str] = ()) -> Table:
    """Return a table with the first column and text on the left and numbers on the right."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        justify = "left" if index == 0 or column in text_columns else "right"
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def counts_table(title: str, unit: str, counts: Mapping[str, int]) -> Table:
    """Return a table of names and their counts."""
    table = plain_table(title, unit)
    for name, count in counts.items():
        table.add_row(Text(name), f"{count:,}")
    return table


def lengths_table(unit: str, sides: Mapping[str, "BaseModel"], columns: Sequence[str]) -> Table:
    """Return a table of the order statistics of each text of a pair."""
    table = plain_table(unit, *columns)
    for side, lengths in sides.items():
        table.add_row(side, *(number(getattr(lengths, column)) for column in columns))
    return table


def named_values(values: Sequence[tuple[str, str]]) -> Table:
    """Return a table of names and values, without a header."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in values:
        table.add_row(name, Text(value))
    return table


def count_and_share(part: int, whole: int) -> str:
    """Return a count with its share of a whole.

    >>> count_and_share(1, 8)
    '1 (12.5%)'
    """
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def with_diff(pieces: Sequence[Piece], style: str) -> Text:
    """Return a text whose differing words have a style."""
    return Text.assemble(*((piece.text, style if piece.differs else "") for piece in pieces))
