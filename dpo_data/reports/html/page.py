"""The report of a prepared folder as one HTML file: nothing is fetched, nothing is run, every text is escaped."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpo_data.errors import UsageError, writing
from dpo_data.inspect.report_data import DataReport, ExamplePair
from dpo_data.inspect.statistics.models import ENOUGH_REPEATS
from dpo_data.reports.html import charts
from dpo_data.reports.html.sections import SECTIONS
from dpo_data.word_diff import Piece, word_diff

HTML_NAME = "report.html"


class Rendered(NamedTuple):
    """A section that has something to show."""

    name: str
    title: str
    body: Markup


def page(report: DataReport) -> str:
    """The whole page; the same report gives the same page."""
    environment = _environment()
    rendered = []
    for section in SECTIONS:
        content = section.content(report)
        if content is not None:
            template = environment.get_template(f"sections/{section.name}.html")
            # Escaped by its own template already.
            body = Markup(template.render(report=report, **content))  # noqa: S704
            rendered.append(Rendered(section.name, section.title, body))
    return environment.get_template("page.html").render(report=report, sections=rendered, enough_repeats=ENOUGH_REPEATS)


def write_page(report: DataReport, output: Path) -> Path:
    """Write the page, and the report as JSON beside it under the same name; the path of the page.

    Raises: UsageError: the folder cannot be written.
    """
    beside = output.with_suffix(".json")
    if beside == output:
        raise UsageError(
            f"--output {output}: names the page, and its JSON goes beside it.\n  As in: --output report.html."
        )
    try:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(page(report), encoding="utf-8")
            beside.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except UsageError as error:
        raise UsageError(f"{error}\n  Name a file elsewhere: --output report.html.") from error
    return output


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "percent": _percent, "number": charts.number}
    environment.globals |= {"charts": charts, "diff": _diff}
    return environment


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _diff(pair: ExamplePair) -> dict[str, list[Piece]]:
    """Both responses in pieces; nothing is marked where nothing is shared, since everything would be."""
    chosen, rejected = pair.chosen.strip(), pair.rejected.strip()
    ours, theirs = word_diff(chosen, rejected)
    if all(piece.differs for piece in (*ours, *theirs)):
        ours, theirs = [Piece(chosen, differs=False)], [Piece(rejected, differs=False)]
    return {"chosen": ours, "rejected": theirs}
