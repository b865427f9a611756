"""Inline SVG charts: pure functions of numbers. Colors are classes, which the style sheet sets for both themes.

Every chart is `WIDTH` units wide and is shown in a column of 350 to 560 pixels, so that its text is readable on phones.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from markupsafe import Markup

from dpo_data.inspect.statistics.models import Bin, Distribution
from dpo_data.reports.numbers import number

WIDTH = 440
HEIGHT = 190
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 10, 40
LINE = 19
#: Maximum characters of a row's name.
MAX_NAME = 20
#: Points of a curve to draw; more than that cannot be told apart at this width.
MAX_POINTS = 400


class Series(NamedTuple):
    """One distribution of a chart: its name, and the class that sets its color."""

    name: str
    style: str
    distribution: Distribution


class Flow(NamedTuple):
    """Rows with one outcome: its name, their number, and the class that sets their color."""

    name: str
    rows: int
    style: str
    label: str


class Interval(NamedTuple):
    """A share with its interval, on one line of a chart; None if nothing was decided."""

    name: str
    share: float | None
    low: float | None
    high: float | None
    note: str
    indented: bool


class Curve(NamedTuple):
    """Values over the steps of a run, (step, value): a line, or dots if there are only a few measurements."""

    name: str
    style: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def histogram(series: Sequence[Series], unit: str) -> Markup:
    """Return distributions with the same bins on top of each other: the first filled, the others as outlines."""
    # One of them may continue beyond the last edge of the other.
    bins = max((one.distribution.bins for one in series), key=len)
    tallest = max(max(bin_.count for bin_ in one.distribution.bins) / one.distribution.count for one in series) or 1.0
    bar = (WIDTH - LEFT - RIGHT) / len(bins)
    parts = list(_share_axis(tallest))
    for one in series:
        shares = [bin_.count / one.distribution.count for bin_ in one.distribution.bins]
        heights = [share / tallest * (HEIGHT - TOP - BOTTOM) for share in shares]
        parts.append(_steps(heights, bar, one, unit))
    parts += _edge_labels(bins, bar, unit)
    names = " and ".join(one.name for one in series)
    return _svg(parts, HEIGHT, f"Histogram of {unit}: {names}")


def difference_histogram(distribution: Distribution, unit: str, zeros: int = 0) -> Markup:
    """Return a distribution around zero: values below it in the color of rejected, above it in that of chosen.

    Args:
        distribution: with an edge at zero, if there are values on both sides.
        unit: label of the axis.
        zeros: number of values that are zero; drawn in a color of their own, in the bin that begins at zero.
    """
    tallest = max(bin_.count for bin_ in distribution.bins) / distribution.count
    bar = (WIDTH - LEFT - RIGHT) / len(distribution.bins)
    parts = list(_share_axis(tallest))
    for place, bin_ in enumerate(distribution.bins):
        height = bin_.count / distribution.count / tallest * (HEIGHT - TOP - BOTTOM)
        style = "rejected" if bin_.high is not None and bin_.high <= 0 else "chosen"
        parts.append(_bar(style, LEFT + place * bar + 0.5, max(bar - 1, 0.5), height, _of(bin_, unit)))
        if bin_.low == 0:
            part = height * zeros / max(1, bin_.count)
            parts.append(_bar("equal", LEFT + place * bar + 0.5, max(bar - 1, 0.5), part, f"0 {unit}: {zeros:,}"))
            parts.append(_line(LEFT + place * bar, TOP, LEFT + place * bar, HEIGHT - BOTTOM, "zero"))
    parts += _edge_labels(distribution.bins, bar, unit)
    return _svg(parts, HEIGHT, f"Histogram of {unit}")


def flow(total: int, unit: str, ways: Sequence[Flow]) -> Markup:
    """Return the outcomes of rows: a band to each outcome, as thick as it has rows (at least one unit)."""
    source_x, target_x, bar, gap = 0, 196, 12, 7
    scale = 150 / max(1, total)
    thick = [max(1.0, way.rows * scale) for way in ways]
    tall = [max(LINE, height) for height in thick]
    height = sum(tall) + gap * (len(ways) - 1) + 24
    source_height = sum(thick)
    # Level with the first outcome, usually by far the thickest, so that its band is straight.
    start = source = 24 + (tall[0] - thick[0]) / 2 if ways else 24.0
    parts = [
        Markup('<text class="strong" x="0" y="14">{} {}</text>').format(f"{total:,}", unit),
        Markup('<rect class="fill node" x="{}" y="{:.1f}" width="{}" height="{:.1f}"/>').format(
            source_x, start, bar, source_height
        ),
    ]
    top = 24.0
    for way, band, space in zip(ways, thick, tall, strict=True):
        end = top + (space - band) / 2
        middle = (source_x + bar + target_x) / 2
        parts.append(
            Markup(
                '<path class="band {}" d="M{:.1f},{:.1f} C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f} V{:.1f} '
                'C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f} Z"><title>{}</title></path>'
            ).format(
                way.style,
                source_x + bar, source, middle, source, middle, end, target_x, end,
                end + band, middle, end + band, middle, source + band, source_x + bar, source + band,
                f"{way.name}: {way.label}",
            )
        )  # fmt: skip
        parts.append(
            Markup('<rect class="fill {}" x="{}" y="{:.1f}" width="5" height="{:.1f}"/>').format(
                way.style, target_x, end, band
            )
        )
        parts.append(
            Markup('<text x="{}" y="{:.1f}">{} <tspan class="muted">{}</tspan></text>').format(
                target_x + 12, top + space / 2 + 4.5, way.label, way.name
            )
        )
        source += band
        top += space + gap
    return _svg(parts, height, f"Outcomes of {total:,} {unit}")


def intervals(rows: Sequence[Interval]) -> Markup:
    """Return shares with their intervals on one scale from 0 to 100%, with a line at one half, a coin flip."""
    left, right = 158, 318
    # Space before each rule separates it from the parts of the previous rule.
    tops = list(accumulate((0 if row.indented else 6 for row in rows), initial=0))[1:]
    height = TOP + LINE * len(rows) + (tops[-1] if tops else 0) + 24
    bottom = height - 22

    def at(share: float) -> float:
        return left + share * (right - left)

    parts = [
        _line(at(share), TOP, at(share), bottom, "zero" if share == 0.5 else "grid")
        for share in (0, 0.25, 0.5, 0.75, 1)
    ]
    parts += [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{:.0%}</text>').format(at(s), height - 6, s)
        for s in (0, 0.5, 1)
    ]
    for place, row in enumerate(rows):
        y = TOP + tops[place] + LINE * place + LINE / 2
        name = row.name if len(row.name) <= MAX_NAME else f"…{row.name[1 - MAX_NAME :]}"
        parts.append(
            Markup('<text class="{}" x="{}" y="{:.1f}">{}<title>{}</title></text>').format(
                "muted" if row.indented else "strong", 12 if row.indented else 0, y + 4.5, name, row.name
            )
        )
        parts.append(
            Markup('<text class="{}" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                "muted" if row.indented else "", WIDTH, y + 4.5, row.note
            )
        )
        if row.share is not None and row.low is not None and row.high is not None:
            parts.append(_line(at(row.low), y, at(row.high), y, "interval"))
            parts.append(
                Markup('<circle class="fill chosen" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(
                    at(row.share), y, 3 if row.indented else 4.5
                )
            )
    return _svg(parts, height, "Accuracy of each rule with its 95% interval")


def columns(names: Sequence[str], groups: Sequence[tuple[str, str, Sequence[float]]], unit: str) -> Markup:
    """Return shares as columns side by side.

    Args:
        names: labels on the axis.
        groups: name, class and shares (one per label) of each kind of column.
        unit: label of the axis.
    """
    tallest = max([0.01, *(share for _, _, shares in groups for share in shares)])
    step = (WIDTH - LEFT - RIGHT) / len(names)
    bar = min(28.0, step * 0.8 / len(groups))
    parts = list(_share_axis(tallest))
    for place, name in enumerate(names):
        middle = LEFT + step * (place + 0.5)
        for rank, (what, style, shares) in enumerate(groups):
            height = shares[place] / tallest * (HEIGHT - TOP - BOTTOM)
            x = middle + (rank - len(groups) / 2) * bar
            parts.append(_bar(style, x, bar - 1, height, f"{what}, {name}: {shares[place]:.1%}"))
        parts.append(_tick(middle, name))
    parts.append(_unit(unit))
    return _svg(parts, HEIGHT, f"{' and '.join(what for what, _, _ in groups)} by {unit}")


def curves(lines: Sequence[Curve], label: str, level: float | None = None) -> Markup:
    """Return curves over optimizer steps; values that are not finite are left out.

    Args:
        lines: at least one with a finite value.
        label: what is measured, for screen readers.
        level: a value to compare with, drawn as a dashed line if it is near the values.
    """
    shown = [line._replace(points=_thinned(line.points)) for line in lines]
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points]
    low, high = min(values), max(values)
    if level is not None and low - (high - low) <= level <= high + (high - low):
        low, high = min(low, level), max(high, level)
    ticks = _round_ticks(low, high)
    left, bottom = LEFT + 8, HEIGHT - BOTTOM
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x_of(step: float) -> float:
        return left + (step - first) / (last - first) * (WIDTH - RIGHT - left)

    def y_of(value: float) -> float:
        return bottom - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - TOP)

    parts = []
    for rank, tick in enumerate(ticks):
        parts.append(_line(left, y_of(tick), WIDTH - RIGHT, y_of(tick), "grid" if rank else "base"))
        parts.append(_value_tick(left - 5, y_of(tick) + 4, number(tick)))
    if level is not None and ticks[0] <= level <= ticks[-1]:
        parts.append(_line(left, y_of(level), WIDTH - RIGHT, y_of(level), "zero"))
    parts += [
        _tick(x_of(step), number(step))
        for step in _round_ticks(first, last)
        if first <= step <= last and step == int(step)
    ]
    for line in shown:
        path = " ".join(f"{x_of(step):.1f},{y_of(value):.1f}" for step, value in line.points)
        style = f"curve {line.style} guide" if line.dots else f"curve {line.style}"
        parts.append(
            Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>').format(style, path, line.name)
        )
        for step, value in line.points if line.dots else ():
            title = f"{line.name}, step {step:,}: {number(value)}"
            parts.append(
                Markup('<circle class="fill {}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
                    line.style, x_of(step), y_of(value), title
                )
            )
    parts.append(_unit("optimizer step"))
    return _svg(parts, HEIGHT, f"{label}: {' and '.join(line.name for line in lines)}")


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` points with the same peaks: the lowest and the highest of each stretch."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    stretch = 2 * math.ceil(len(finite) / MAX_POINTS)
    if stretch <= 2:
        return finite
    kept = []
    for start in range(0, len(finite), stretch):
        part = sorted(finite[start : start + stretch], key=lambda point: point[1])
        kept += sorted({part[0], part[-1]})
    return kept


def _round_ticks(low: float, high: float) -> list[float]:
    """Return about five values around low..high, at multiples of 1, 2 or 5 times a power of ten.

    >>> _round_ticks(0.48, 0.71)
    [0.4, 0.5, 0.6, 0.7, 0.8]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(factor * power for factor in (0.2, 0.5, 1, 2, 5) if span / (factor * power) <= 4.5)
    digits = max(0, 1 - math.floor(math.log10(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(multiple * step, digits) for multiple in range(first, max(last, first + 1) + 1)]


def _value_tick(x: float, y: float, text: str) -> Markup:
    return Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="end">{}</text>').format(x, y, text)


def _svg(parts: Sequence[Markup], height: float, label: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


def _bar(style: str, x: float, width: float, height: float, title: str) -> Markup:
    box = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"').format(
        x, HEIGHT - BOTTOM - height, width, height
    )
    return Markup('<rect class="fill {}" {}><title>{}</title></rect>').format(style, box, title)


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(style, x1, y1, x2, y2)


def _share_axis(tallest: float) -> Iterator[Markup]:
    """Yield grid lines at round shares, and the base line."""
    step = next(step for step in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 1.0) if tallest / step <= 4.5)
    for count in range(int(tallest / step + 1e-9) + 1):
        share = count * step
        y = HEIGHT - BOTTOM - share / tallest * (HEIGHT - TOP - BOTTOM)
        yield _line(LEFT, y, WIDTH - RIGHT, y, "grid" if count else "base")
        text = f"{share:.0%}" if step >= 0.01 else f"{share:.1%}"
        yield _value_tick(LEFT - 5, y + 4, text)


def _steps(heights: Sequence[float], bar: float, series: Series, unit: str) -> Markup:
    base = HEIGHT - BOTTOM
    path = "".join(
        f"L{LEFT + place * bar:.1f},{base - height:.1f} H{LEFT + (place + 1) * bar:.1f} "
        for place, height in enumerate(heights)
    )
    return Markup('<path class="steps {}" d="M{},{} {}V{} Z"><title>{}</title></path>').format(
        series.style, LEFT, base, path, base, f"{series.name}, {unit}"
    )


def _edge_labels(bins: Sequence[Bin], bar: float, unit: str) -> Iterator[Markup]:
    """Yield every few edges of the bins below the axis, and a note on open-ended bins."""
    edges = [(place, bin_.low) for place, bin_ in enumerate(bins) if bin_.low is not None]
    if bins[-1].high is not None:
        edges.append((len(bins), bins[-1].high))
    zero = next((rank for rank, (_, edge) in enumerate(edges) if edge == 0), 0)
    every = max(1, -(-len(edges) // 6))
    shown = [edge for rank, edge in enumerate(edges) if (rank - zero) % every == 0]
    for place, edge in shown:
        yield _tick(LEFT + place * bar, number(edge))
    open_ended = {
        (True, True): " (end bins: all beyond)",
        (True, False): " (first bin: all below)",
        (False, True): " (last bin: all above)",
        (False, False): "",
    }
    yield _unit(unit + open_ended[bins[0].low is None, bins[-1].high is None])


def _tick(x: float, text: str) -> Markup:
    return Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
        min(x, WIDTH - RIGHT - 6), HEIGHT - BOTTOM + 15, text
    )


def _unit(text: str) -> Markup:
    return Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
        WIDTH - RIGHT, HEIGHT - 8, text
    )


def _of(bin_: Bin, unit: str) -> str:
    low = "less" if bin_.low is None else number(bin_.low)
    high = "more" if bin_.high is None else number(bin_.high)
    return f"{low} to {high} {unit}: {bin_.count:,}"
