"""What `report`, `diff` and `where` found, for a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from dpo_data.conversion.card import row_balance
from dpo_data.inspect.diff import Changes, Comparison, MetricChange, PairChange
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.statistics.models import ENOUGH_REPEATS, Lengths, RuleScore, Statistics, Truncation
from dpo_data.inspect.statistics.rules import LONGER_WINS
from dpo_data.inspect.where import PairUse
from dpo_data.reports.html.charts import number
from dpo_data.reports.html.sections import gap_name
from dpo_data.reports.terminal.tables import SEVERITY_STYLE, plain_table
from dpo_data.word_diff import word_diff

EXCERPT_CHARACTERS = 160


def data_report(report: DataReport, page: Path) -> RenderableType:
    """The report in short, and where the page is."""
    statistics = report.statistics
    parts: list[RenderableType] = [Text.assemble((report.path, "bold"), f": {row_balance(report.manifest)}")]
    if report.manifest.status == "rejected":
        parts.append(Text("Rejected: no trainer takes this data.", style="bold red"))
    if report.validation.findings:
        findings = plain_table("finding", "severity", "rows")
        for code, finding in report.validation.findings.items():
            findings.add_row(code, Text(finding.severity, SEVERITY_STYLE[finding.severity]), f"{finding.rows:,}")
        parts.append(findings)
    for unit, lengths in (("characters", statistics.characters), ("tokens", statistics.tokens)):
        if lengths:
            parts.append(_lengths(unit, lengths))
    parts.append(_rules(statistics))
    if statistics.lengths:
        share = statistics.lengths.chosen_longer / statistics.pairs
        parts.append(Text(f"Chosen is longer than rejected in {share:.1%} of the pairs."))
    parts.append(_noise(statistics))
    if statistics.truncation:
        parts.append(_truncation(statistics.truncation))
    parts.append(Text(f"Report: {page}", style="bold"))
    return Group(*parts)


def comparison(found: Comparison) -> RenderableType:
    """How two prepared folders differ."""
    head = f"{found.a} ({found.pairs_a:,} pairs) and {found.b} ({found.pairs_b:,} pairs)"
    if found.same:
        return Group(
            Text(f"{head} hold the same pairs in the same splits.", style="bold green"), *_shifts(found.shifts)
        )
    kinds = plain_table("pairs that are", "pairs", "where")
    kinds.add_row("unchanged", f"{found.unchanged:,}", "")
    parts: list[RenderableType] = [Text(f"{head} differ.", style="bold"), kinds]
    for name in ("moved", "flipped", "changed", "removed", "added"):
        changes = getattr(found, name)
        where = ", ".join(f"{split} {pairs:,}" for split, pairs in changes.by_split.items())
        kinds.add_row(name, f"{changes.pairs:,}", Text(where))
        parts += _change_examples(name, changes)
    return Group(*parts, *_shifts(found.shifts))


def _shifts(shifts: Sequence[MetricChange]) -> list[RenderableType]:
    table = plain_table("what shifts", "a", "b", "by")
    for shift in shifts:
        known = shift.a is not None and shift.b is not None
        by = (shift.b or 0.0) - (shift.a or 0.0)
        change = f"{'+' if by > 0 else ''}{number(by)}" if known else ""
        table.add_row(Text(shift.name), _or_none(shift.a), _or_none(shift.b), change)
    return [table] if shifts else []


def uses(found: Sequence[PairUse]) -> RenderableType:
    """Where a pair is."""
    table = plain_table(
        "where it is", "kind", "pair", "origin", "step", "margin", text_columns={"kind", "pair", "origin"}
    )
    for use in found:
        place = use.split if use.index is None else f"{use.split}:{use.index}"
        table.add_row(
            Text(use.path),
            f"dropped: {use.dropped}" if use.dropped else use.kind,
            place,
            Text(use.origin),
            "" if use.step is None else f"{use.step:,}",
            "" if use.margin is None else f"{use.margin:+.3f}",
        )
    return Group(Text(found[0].id, style="bold"), table)


def _lengths(unit: str, lengths: Lengths) -> RenderableType:
    names = ("mean", "p5", "median", "p95", "max")
    table = plain_table(unit, *names)
    for side in ("prompt", "chosen", "rejected"):
        table.add_row(side, *(number(getattr(getattr(lengths, side), name)) for name in names))
    return table


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
        for bin_ in rule.by_margin if len(rule.by_margin) > 1 else ():
            table.add_row(f"  margin {number(bin_.low)} to {number(bin_.high)}", *_score(bin_.score))
    return table


def _score(score: RuleScore) -> tuple[str, str, str, str]:
    if score.accuracy is None:
        return "–", "–", "0", "0.0%"
    return f"{score.accuracy:.1%}", f"{score.low:.1%} – {score.high:.1%}", f"{score.decided:,}", f"{score.coverage:.1%}"


def _noise(statistics: Statistics) -> RenderableType:
    noise = statistics.label_noise
    if noise is None:
        return Text("Label noise: unknown, no pair of responses was judged twice.")
    advice = "labels are coin flips" if noise.label_smoothing is None else f"--label-smoothing {noise.label_smoothing}"
    few = "" if noise.repeated >= ENOUGH_REPEATS else " A hint, no measurement."
    return Text(
        f"Label noise: {noise.error:.1%} ({noise.error_low:.1%} – {noise.error_high:.1%}): {advice}. Pairs judged more "
        f"than once: {noise.repeated:,}; both ways: {noise.disputed:,}.{few}"
    )


def _truncation(entries: Sequence[Truncation]) -> RenderableType:
    """One row a length and mode."""
    counts = {
        "prompt tokens lost": "prompt_tokens_lost",
        "chosen losing its end": "chosen_losing_end",
        "rejected losing its end": "rejected_losing_end",
        "one of the two": "one_side_losing_end",
        "response tokens lost": "response_tokens_lost",
        "identical": "identical",
    }
    table = plain_table("max length", "mode", "pairs cut", *counts, text_columns={"mode"})
    for entry in entries:
        share = f"{entry.pairs_cut:,} ({entry.pairs_cut / max(1, entry.pairs):.1%})"
        values = (f"{getattr(entry, name):,}" for name in counts.values())
        table.add_row(f"{entry.max_length:,}", entry.truncation_mode, share, *values)
    return table


def _change_examples(name: str, changes: Changes) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for example in changes.examples:
        places = " -> ".join(place for place in (example.place_a, example.place_b) if place)
        ids = " -> ".join(dict.fromkeys(id_ for id_ in (example.id_a, example.id_b) if id_))
        parts += [Text(f"{name}  {places}  {ids}", style="bold"), Text(_end(example.prompt), style="dim")]
        if name == "changed":
            parts += _changed_responses(example)
        elif name in ("removed", "added"):
            chosen, rejected = example.chosen_a or example.chosen_b, example.rejected_a or example.rejected_b
            parts += [_response("chosen", chosen), _response("rejected", rejected)]
        elif name == "flipped":
            parts += [_response("chosen in a, rejected in b", example.chosen_a)]
            parts += [_response("chosen in b, rejected in a", example.chosen_b)]
    return parts


def _changed_responses(example: PairChange) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for side in ("chosen", "rejected"):
        a, b = getattr(example, f"{side}_a"), getattr(example, f"{side}_b")
        if a != b:
            for folder, pieces in zip("ab", word_diff(a, b), strict=True):
                style = "red" if folder == "a" else "green"
                text = Text.assemble(*((piece.text, style if piece.differs else "") for piece in pieces))
                text.truncate(4 * EXCERPT_CHARACTERS)
                parts.append(Text.assemble((f"  {side} in {folder}: ", "bold"), text))
    return parts


def _response(title: str, text: str | None) -> RenderableType:
    words = " ".join((text or "").split())
    cut = words if len(words) <= EXCERPT_CHARACTERS else f"{words[:EXCERPT_CHARACTERS]} …"
    return Text.assemble((f"  {title}: ", "bold"), cut)


def _end(text: str) -> str:
    words = " ".join(text.split())
    return f"  {words}" if len(words) <= EXCERPT_CHARACTERS else f"  … {words[-EXCERPT_CHARACTERS:]}"


def _or_none(value: float | None) -> str:
    return "–" if value is None else number(value)
