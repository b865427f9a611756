"""Charts as SVG: valid, complete, and with the shape of their data."""

import math
import re
from xml.etree import ElementTree

import pytest

from dpo_data.reports.html.charts import MAX_POINTS, Curve, curves


def points_of(chart):
    return [
        [tuple(map(float, point.split(","))) for point in line.split()]
        for line in re.findall(r'<polyline [^>]*points="([^"]*)"', chart)
    ]


def test_a_curve_rises_where_its_values_rise():
    chart = curves([Curve("train", "chosen", [(1, 0.7), (2, 0.5), (3, 0.6)])], "Loss")
    assert ElementTree.fromstring(chart).get("aria-label") == "Loss: train"  # noqa: S314
    ((first, second, third),) = points_of(chart)
    assert first[0] < second[0] < third[0]
    # The y-axis of SVG points down.
    assert first[1] < third[1] < second[1]


def test_values_that_are_not_finite_are_left_out():
    chart = curves([Curve("train", "chosen", [(1, math.nan), (2, 0.5), (3, math.inf), (4, 0.6)])], "Loss")
    assert [len(points) for points in points_of(chart)] == [2]
    assert "nan" not in chart
    assert "inf" not in chart


def test_long_runs_are_thinned_without_losing_their_peaks():
    values = [(step, 1.0) for step in range(10_000)]
    values[7_001] = (7_001, 5.0)
    values[7_002] = (7_002, -5.0)
    ((points),) = points_of(curves([Curve("train", "chosen", values)], "Loss"))
    assert 100 < len(points) <= MAX_POINTS + 2
    ys = [y for _, y in points]
    assert len({min(ys), max(ys), sorted(ys)[len(ys) // 2]}) == 3


@pytest.mark.parametrize(
    "values", [[(1, 0.5)], [(0, 0.0), (1, 0.0)], [(3, -2e-9), (4, 1e-9)], [(1, 1e7), (900_000, -3e7)]]
)
def test_any_range_of_values_has_a_chart(values):
    chart = curves([Curve("test", "bad", values, dots=True)], "Reward", level=0.0)
    ElementTree.fromstring(chart)  # noqa: S314
    numbers = [float(number) for number in re.findall(r'c[xy]="([^"]*)"', chart)]
    assert len(numbers) == 2 * len(values)
    assert all(-1 <= number <= 441 for number in numbers)


def test_a_level_far_from_the_values_does_not_flatten_them():
    near = curves([Curve("train", "chosen", [(1, 0.70), (2, 0.68)])], "Loss", level=0.69)
    far = curves([Curve("train", "chosen", [(1, 0.02), (2, 0.01)])], "Loss", level=0.69)
    assert 'class="zero"' in near
    assert 'class="zero"' not in far
