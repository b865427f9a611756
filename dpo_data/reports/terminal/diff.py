"""Terminal output of `dpo-data diff`."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.excerpts import beginning, ending, one_line
from dpo_data.inspect.diff import Changes, Comparison, MetricChange, PairChange
from dpo_data.reports.numbers import number
from dpo_data.reports.terminal.tables import plain_table, with_diff
from dpo_data.word_diff import word_diff

EXCERPT_CHARACTERS = 160


def comparison(found: Comparison) -> RenderableType:
    """Return how two prepared folders differ."""
    head = f"{found.a} ({found.pairs_a:,} pairs) and {found.b} ({found.pairs_b:,} pairs)"
    if found.same:
        return Group(Text(f"{head} have the same pairs in the same splits.", "bold green"), *_shifts(found.shifts))
    kinds = plain_table("pairs that are", "pairs", "where", text_columns={"where"})
    kinds.add_row("unchanged", f"{found.unchanged:,}", "")
    parts: list[RenderableType] = [Text(f"{head} differ.", style="bold"), kinds]
    for name in ("moved", "flipped", "changed", "removed", "added"):
        changes = getattr(found, name)
        where = ", ".join(f"{split} {pairs:,}" for split, pairs in changes.by_split.items())
        kinds.add_row(name, f"{changes.pairs:,}", Text(where))
        parts += _examples(name, changes)
    return Group(*parts, *_shifts(found.shifts))


def _shifts(shifts: Sequence[MetricChange]) -> list[RenderableType]:
    table = plain_table("what shifts", "a", "b", "by")
    for shift in shifts:
        by = ""
        if shift.a is not None and shift.b is not None:
            by = f"{'+' if shift.b > shift.a else ''}{number(shift.b - shift.a)}"
        values = ("–" if value is None else number(value) for value in (shift.a, shift.b))
        table.add_row(Text(shift.name), *values, by)
    return [table] if shifts else []


def _examples(name: str, changes: Changes) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for example in changes.examples:
        positions = " -> ".join(position for position in (example.place_a, example.place_b) if position)
        ids = " -> ".join(dict.fromkeys(id_ for id_ in (example.id_a, example.id_b) if id_))
        prompt = ending(one_line(example.prompt), EXCERPT_CHARACTERS)
        parts += [Text(f"{name}  {positions}  {ids}", style="bold"), Text(f"  {prompt}", style="dim")]
        if name == "changed":
            parts += _changed_responses(example)
        elif name in ("removed", "added"):
            parts.append(_response("chosen", example.chosen_a or example.chosen_b))
            parts.append(_response("rejected", example.rejected_a or example.rejected_b))
        elif name == "flipped":
            parts.append(_response("chosen in a, rejected in b", example.chosen_a))
            parts.append(_response("chosen in b, rejected in a", example.chosen_b))
    return parts


def _changed_responses(example: PairChange) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for side in ("chosen", "rejected"):
        a, b = getattr(example, f"{side}_a"), getattr(example, f"{side}_b")
        if a != b:
            for folder, style, pieces in zip("ab", ("red", "green"), word_diff(a, b), strict=True):
                text = with_diff(pieces, style)
                text.truncate(4 * EXCERPT_CHARACTERS)
                parts.append(Text.assemble((f"  {side} in {folder}: ", "bold"), text))
    return parts


def _response(title: str, text: str | None) -> RenderableType:
    return Text.assemble((f"  {title}: ", "bold"), beginning(one_line(text or ""), EXCERPT_CHARACTERS))
