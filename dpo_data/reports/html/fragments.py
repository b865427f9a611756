"""Results as small pieces of HTML, for notebooks: the `_repr_html_` of each result calls its function here."""

from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dpo_data.inspect.diff import Comparison
from dpo_data.inspect.pair_tokens import DisplayedPair
from dpo_data.inspect.pairs import PairAt
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.search import SearchResult
from dpo_data.inspect.validation import Quantiles, ValidationReport
from dpo_data.prepared.manifest import Manifest
from dpo_data.reports.findings import verdict
from dpo_data.reports.html.rendering import TEMPLATES, environment
from dpo_data.reports.html.sections import rule_intervals
from dpo_data.reports.phrases import noise_headline


def render_fragment(template: str, *, templates: Path = TEMPLATES, **variables: Any) -> str:
    """Return a fragment as HTML.

    Args:
        template: name of a template that extends fragments/fragment.html.
        templates: folder of the template, if it is not in this package.
        variables: variables of the template.
    """
    return environment(templates).get_template(template).render(style=_style(), **variables)


@cache
def _style() -> Markup:
    """Return the style sheet to nest in the class of a fragment, so that it does not change the rest of a notebook."""
    names = ("colors.css", "style.css", "charts.css")
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return Markup(style.replace(":root", "&"))  # noqa: S704


def manifest(shown: Manifest) -> str:
    """Return a prepared folder's manifest: what became of the raw rows."""
    return render_fragment(
        "fragments/manifest.html",
        manifest=shown,
        split_pairs={name: split.pairs for name, split in shown.splits.items()},
        warnings={code: warning.rows for code, warning in shown.warnings.items()},
    )


def validation(report: ValidationReport) -> str:
    """Return damage, findings and lengths."""
    return render_fragment(
        "fragments/validation.html",
        report=report,
        verdict=verdict(report.worst()),
        verdict_style=report.worst() or "good",
        units=[
            (unit, sides) for unit, sides in (("characters", report.characters), ("tokens", report.tokens)) if sides
        ],
        columns=list(Quantiles.model_fields),
    )


def data_report(report: DataReport) -> str:
    """Return the headline numbers of a report."""
    return render_fragment(
        "fragments/data_report.html",
        report=report,
        rows=rule_intervals(report),
        headline=noise_headline(report.statistics.label_noise),
    )


def pair(shown: PairAt) -> str:
    """Return a pair with a word diff of its responses."""
    prompt, chosen, rejected = shown.row.texts
    return render_fragment("fragments/pair.html", shown=shown, prompt=prompt, chosen=chosen, rejected=rejected)


def tokens(shown: DisplayedPair) -> str:
    """Return a pair token by token."""
    return render_fragment("fragments/tokens.html", pair=shown)


def search_result(found: SearchResult) -> str:
    """Return the pairs and rows in quarantine that were found."""
    return render_fragment("fragments/search_result.html", found=found)


def comparison(found: Comparison) -> str:
    """Return how two prepared folders differ."""
    kinds = ("moved", "flipped", "changed", "removed", "added")
    changes = {"unchanged": found.unchanged, **{kind: getattr(found, kind).pairs for kind in kinds}}
    return render_fragment("fragments/comparison.html", found=found, changes=changes)
