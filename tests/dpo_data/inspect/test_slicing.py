"""Reports and comparisons by the value of a kept column."""

from pathlib import Path
from typing import Any

import pytest
from conversions import pair

from dpo_data import convert, diff, report
from dpo_data.errors import UsageError

KEEP = ["lang", "stars:number", "safe:bool"]


def prepared(folder: Path, write_rows: Any, rows: list[dict[str, Any]]) -> Path:
    raw = write_rows(folder.parent / "raw" / f"{folder.name}.jsonl", rows)
    convert("pairs", raw, output=folder, keep=KEEP, form="text")
    return folder


ROWS = [
    pair(1, chosen="long answer", rejected="no", lang="en", stars=1, safe=True),
    pair(2, chosen="longer answer", rejected="no", lang="en", stars=2.5, safe=False),
    pair(3, chosen="nein", rejected="lange Antwort", lang="de", stars=1, safe=None),
    pair(4, chosen="long answer", rejected="no", lang=None, stars=None, safe=True),
]


def test_a_report_counts_pairs_and_scores_rules_by_value(tmp_path, write_rows):
    folder = prepared(tmp_path / "a", write_rows, ROWS)
    statistics = report(folder, by="lang").statistics
    assert (statistics.by, statistics.pairs_by_value) == ("lang", {"en": 2, "de": 1, "(none)": 1})
    longer = statistics.rules[0]
    assert {value: score.accuracy for value, score in longer.by_value.items()} == {"en": 1.0, "de": 0.0, "(none)": 1.0}
    assert longer.overall.accuracy == 0.75
    assert report(folder, by="stars").statistics.pairs_by_value == {"1": 2, "2.5": 1, "(none)": 1}
    assert report(folder, by="safe").statistics.pairs_by_value == {"true": 2, "false": 1, "(none)": 1}
    assert report(folder, by="source").statistics.pairs_by_value == {"pairs": 4}
    assert report(folder).statistics.pairs_by_value == {}


def test_the_page_and_the_summary_show_the_slices(tmp_path, write_rows, dpo_data):
    folder = prepared(tmp_path / "a", write_rows, ROWS)
    code, text, _ = dpo_data("report", folder, "--by", "lang")
    assert code == 0
    assert next(line.split() for line in text.splitlines() if line.startswith("  lang"))[:3] == ["lang", "en", "100.0%"]
    assert "lang de: 1 pairs" in (folder / "report.html").read_text()


def test_a_comparison_gives_its_shifts_by_value(tmp_path, write_rows):
    a = prepared(tmp_path / "a", write_rows, ROWS)
    b = prepared(tmp_path / "b", write_rows, [*ROWS[:2], pair(5, chosen="ja", rejected="n", lang="de")])
    shifts = {shift.name: (shift.a, shift.b) for shift in diff(a, b, by="lang").shifts}
    assert shifts["longer wins in lang de, accuracy"] == (0.0, 1.0)
    assert shifts["pairs of lang (none)"] == (1, None)
    assert "pairs of lang en" not in shifts
    assert not any("lang" in shift.name for shift in diff(a, b).shifts)


def test_a_column_that_was_not_kept_or_has_many_values_is_refused(tmp_path, write_rows):
    folder = prepared(tmp_path / "a", write_rows, ROWS)
    with pytest.raises(UsageError) as caught:
        report(folder, by="langs")
    assert str(caught.value) == (
        f"by=langs: {folder} has no such metadata column, only source, lang, stars, safe.\n"
        "  Keep it when you convert: keep=langs.\n  Did you mean lang?"
    )
    many = prepared(tmp_path / "b", write_rows, [pair(n, lang=str(n), stars=1, safe=True) for n in range(51)])
    for result in (lambda: report(many, by="lang"), lambda: diff(many, folder, by="lang")):
        with pytest.raises(UsageError, match="more than 50 values"):
            result()
