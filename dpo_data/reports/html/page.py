"""Report on a prepared folder as one HTML file."""

from pathlib import Path

from dpo_data.errors import UsageError, argument, writing
from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.statistics.models import ENOUGH_REPEATS
from dpo_data.prepared.files import replace_texts
from dpo_data.reports.html.rendering import render_page
from dpo_data.reports.html.sections import SECTIONS

HTML_NAME = "report.html"


def page(report: DataReport) -> str:
    """Return the whole page."""
    return render_page("data_report.html", report, SECTIONS, enough_repeats=ENOUGH_REPEATS)


def write_page(report: DataReport, output: str | Path) -> Path:
    """Write the page, and the report as JSON next to it under the same name; return the path of the page.

    Raises: UsageError: the folder cannot be written; an earlier report in it is unchanged.
    """
    output = Path(output)
    json_path = output.with_suffix(".json")
    if json_path == output:
        raise UsageError(
            "names the page, and its JSON is written next to it.\n"
            f"  Choose another name: {argument('output', 'report.html')}.",
            "output",
            output,
        )
    try:
        with writing(output):
            output.parent.mkdir(parents=True, exist_ok=True)
            replace_texts({output: page(report), json_path: report.model_dump_json(indent=2) + "\n"})
    except UsageError as error:
        raise UsageError(f"{error.text}\n  Name another file: {argument('output', 'report.html')}.") from error
    return output
