"""Results in a notebook: HTML fragments and SVG figures."""

from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from dpo_data.errors import UsageError
from dpo_data.inspect.diff import diff
from dpo_data.inspect.report_data import report
from dpo_data.inspect.search import show
from dpo_data.inspect.validation import validate
from dpo_data.prepared.reader import read_manifest
from dpo_data.reports.html.figures import figures

EVIL = "<script>alert(1)</script>"
ROWS = [
    {"prompt": f"Tea? {EVIL}", "chosen": "Pour it while it is hot.", "rejected": "Pour it while it is cold."},
    {"prompt": "What?", "chosen": "", "rejected": "nothing"},
    {"prompt": "Who?", "chosen": f"a\ufffdb {EVIL}", "rejected": "- c\n- d"},
]


class Balanced(HTMLParser):
    """Checks that tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def results(make_prepared, byte_tokenizer):
    folder = make_prepared(ROWS, max_invalid=1.0)
    pair = show(folder, row="0", tokenizer=byte_tokenizer, max_length=20)
    return {
        "manifest": read_manifest(folder),
        "validation": validate(folder, tokenizer=byte_tokenizer),
        "report": report(folder),
        "search": show(folder, text="script"),
        "pair": pair.pairs[0],
        "tokens": pair.tokens,
        "comparison": diff(folder, make_prepared(ROWS[:1], "other")),
    }


@pytest.mark.parametrize("name", ["manifest", "validation", "report", "search", "pair", "tokens", "comparison"])
def test_every_result_has_a_notebook_view_that_is_well_formed_and_escaped(results, name):
    html = results[name]._repr_html_()
    Balanced(html)
    assert "<script" not in html
    assert "http" not in html
    # The style is nested in a class of its own, so that it does not reach the rest of the notebook.
    style = html.partition("<style>")[2].partition("</style>")[0].strip()
    assert style.startswith(".dpo-data {")
    assert style.endswith("}")
    assert ":root" not in style


def test_notebook_views_show_the_numbers_of_the_result(results):
    views = {name: result._repr_html_() for name, result in results.items()}
    assert ">3</b>raw rows" in views["manifest"]
    assert "empty_response" in views["manifest"]
    assert "Warnings, but no errors." in views["validation"]
    assert "bad_characters" in views["validation"]
    assert "longer wins" in views["report"]
    assert "1 pair," not in views["search"]
    assert "2 pairs, 0 rows in quarantine" in views["search"]
    assert "<mark> hot.</mark>" in views["pair"]
    assert "truncated" in views["tokens"]
    assert "removed" in views["comparison"]


def test_figures_are_complete_svg_documents(make_prepared, byte_tokenizer, tmp_path):
    rows = [row | {"chosen_score": 3.0 + n, "rejected_score": 1.0} for n, row in enumerate((ROWS[0], ROWS[2]))]
    found = figures(report(make_prepared(rows), tokenizer=byte_tokenizer, max_lengths=[8, 64]))
    assert set(found) == {
        "rows",
        "length_difference",
        "rules",
        "scores",
        "margins",
        "responses_characters",
        "prompts_characters",
        "responses_tokens",
        "prompts_tokens",
        "truncation",
    }
    for name, figure in found.items():
        figure.save(tmp_path / f"{name}.svg")
        root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()  # noqa: S314
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(" not in figure._repr_svg_()


def test_a_figure_that_cannot_be_written_is_a_usage_error(make_prepared, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError):
        figures(report(make_prepared(ROWS[:1])))["rows"].save(tmp_path / "file" / "rows.svg")
