"""Render self-contained pages: nothing is fetched or executed, and every text is escaped.

A page is a template that extends page.html, and sections: functions of a report, each with a template of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpo_data.excerpts import beginning, ending
from dpo_data.reports.html import charts
from dpo_data.reports.numbers import number
from dpo_data.word_diff import Piece, word_diff

TEMPLATES = Path(__file__).parent / "templates"

Content = Mapping[str, Any] | None


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        name: its anchor, and the name of its template in sections/.
        title: its heading.
        content: function of the report that returns the variables of the template; None leaves the section out.
    """

    name: str
    title: str
    content: Callable[[Any], Content]


class RenderedSection(NamedTuple):
    """A section that has something to show."""

    name: str
    title: str
    body: Markup


def render_page(
    template: str, report: Any, sections: Sequence[Section], *, templates: Path = TEMPLATES, **variables: Any
) -> str:
    """Return a page as HTML; the same report gives the same page.

    Args:
        template: name of a template that extends page.html.
        report: what the page is about, known to all templates as `report`.
        sections: sections of the page, in order.
        templates: folder of the templates, if they are not all in this package.
        variables: further variables of the page's template.
    """
    loaded = environment(templates)
    rendered = []
    for section in sections:
        content = section.content(report)
        if content is not None:
            body = loaded.get_template(f"sections/{section.name}.html").render(report=report, **content)
            # Escaped by its own template.
            rendered.append(RenderedSection(section.name, section.title, Markup(body)))  # noqa: S704
    return loaded.get_template(template).render(report=report, sections=rendered, **variables)


@cache
def environment(templates: Path = TEMPLATES) -> Environment:
    """Return the Jinja environment of a folder of templates, which may use those of this package."""
    loaded = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in dict.fromkeys((templates, TEMPLATES))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.filters |= {"count": _count, "percent": _percent, "number": number, "beginning": beginning, "ending": ending}
    loaded.globals |= {"charts": charts, "diff": _diff}
    return loaded


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _diff(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Return two texts in pieces; if they share nothing, nothing is marked, since everything would be."""
    texts = first.strip(), second.strip()
    pieces = word_diff(*texts)
    if all(piece.differs for side in pieces for piece in side):
        return [Piece(texts[0], differs=False)], [Piece(texts[1], differs=False)]
    return pieces
