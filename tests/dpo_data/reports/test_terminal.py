"""Terminal output: plain lines in a pipe, and one line for an estimate that is not possible."""

import pytest
from rich.table import Table
from rich.text import Text

from dpo_data.inspect.report_data import report
from dpo_data.inspect.statistics.models import ENOUGH_REPEATS
from dpo_data.reports.html.page import page
from dpo_data.reports.terminal.tables import echo

PAIR = {"prompt": "How do I tie a bow?", "chosen": "Cross the ends and pull.", "rejected": "Hope."}


def judged_both_ways(count):
    rows = [
        {"prompt": f"{number}?", "chosen": "yes it is", "rejected": "no", "annotator": "Ann"} for number in range(count)
    ]
    return [*rows, *(row | {"chosen": "no", "rejected": "yes it is", "annotator": "Bob"} for row in rows)]


@pytest.mark.parametrize("command", ["validate", "report", "show", "diff"])
def test_lines_in_a_pipe_have_no_trailing_blanks(make_prepared, dpo_data, command):
    folder = make_prepared([PAIR, {**PAIR, "prompt": "Who?"}])
    other = make_prepared([PAIR], "other")
    words = {"show": [folder, "0"], "diff": [folder, other]}.get(command, [folder])
    _, out, _ = dpo_data(command, *words)
    assert out.endswith("\n")
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


def test_a_long_line_in_a_pipe_is_not_wrapped(capsys):
    echo(Text("word " * 100 + "end"))
    assert capsys.readouterr().out == "word " * 100 + "end\n"


def test_markup_in_a_table_is_not_interpreted(capsys):
    table = Table(box=None)
    table.add_row(Text("[bold]a[/bold]"))
    echo(table)
    assert "[bold]a[/bold]" in capsys.readouterr().out


def test_too_few_repeated_judgments_give_no_estimate(make_prepared, dpo_data):
    folder = make_prepared(judged_both_ways(1))
    headline = "Label noise: not enough repeated judgments to estimate (1)"
    _, out, _ = dpo_data("report", folder)
    assert [line for line in out.splitlines() if "oise" in line] == [headline]
    html = page(report(folder))
    assert headline in html
    for claim in ("coin flips", "label-smoothing", "labels wrong", "50.0% (95% interval"):
        assert claim not in html
        assert claim not in out


def test_enough_repeated_judgments_give_an_estimate(make_prepared, dpo_data):
    folder = make_prepared(judged_both_ways(ENOUGH_REPEATS))
    _, out, _ = dpo_data("report", folder)
    (line,) = [line for line in out.splitlines() if line.startswith("Label noise")]
    assert line.startswith("Label noise: 50.0% (")
    assert "no better than coin flips. Pairs judged more than once: 30; in both directions: 30." in line
    assert "no better than coin flips" in page(report(folder))
