"""Charts of a data report as separate SVG figures, for notebooks and papers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markupsafe import Markup

from dpo_data.errors import writing
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.statistics.models import Lengths
from dpo_data.reports.html import charts, sections
from dpo_data.reports.html.rendering import TEMPLATES

#: Displayed width in pixels.
WIDTH = 660


@dataclass(frozen=True)
class SvgFigure:
    """A chart that needs no style sheet; notebooks display it.

    Attributes:
        svg: the SVG document.
    """

    svg: str

    def save(self, path: str | Path) -> None:
        """Write the figure as an SVG file.

        Raises: UsageError: the file cannot be written.
        """
        with writing(Path(path)):
            Path(path).write_text(self.svg + "\n", encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg


def figures(report: DataReport) -> Mapping[str, SvgFigure]:
    """Return the charts of a report by name; those without data are left out.

    Names: rows, length_difference, rules, scores, margins, truncation; and for each unit of length, characters and
    tokens, responses_characters, prompts_characters and so on.
    """
    statistics = report.statistics
    found: dict[str, Markup] = {}
    if outcomes := sections.flow(report):
        found["rows"] = charts.flow(report.manifest.rows_read, report.manifest.rows_unit, outcomes["ways"])
    if lengths := statistics.lengths:
        unit = "characters, chosen minus rejected"
        found["length_difference"] = charts.difference_histogram(lengths.difference, unit, lengths.equal)
    if rows := sections.rule_intervals(report):
        found["rules"] = charts.intervals(rows)
    if scores := sections.scores(report):
        if scores["series"]:
            found["scores"] = charts.histogram(scores["series"], "score")
        if scores["scores"].margin:
            found["margins"] = charts.difference_histogram(scores["scores"].margin, "margin")
    for unit, of_unit in (("characters", statistics.characters), ("tokens", statistics.tokens)):
        if of_unit:
            found |= _length_figures(unit, of_unit)
    if truncation := sections.truncation(report):
        found["truncation"] = charts.columns(truncation["names"], truncation["groups"], "max length, tokens")
    return {name: SvgFigure(_standalone(chart)) for name, chart in found.items()}


def _length_figures(unit: str, of_unit: Lengths) -> dict[str, Markup]:
    series = sections.length_series(of_unit)
    return {f"{name}_{unit}": charts.histogram(lines, unit) for name, lines in series.items()}


def _standalone(chart: Markup) -> str:
    """Return a chart with its own style, on a white ground."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" font-family="system-ui, sans-serif" '
        'style="background: #fff" class="chart"'
    )
    return str(chart).replace('<svg class="chart"', head, 1).replace(">", f"><style>{_style()}</style>", 1)


@cache
def _style() -> str:
    """Return the style of charts in the colors of the light theme, as not every viewer knows CSS variables."""
    light = (TEMPLATES / "colors.css").read_text(encoding="utf-8").partition("}")[0]
    colors = dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]+)", light))
    style = (TEMPLATES / "charts.css").read_text(encoding="utf-8")
    return re.sub(r"var\((--[a-z-]+)\)", lambda variable: colors[variable[1]], style)
