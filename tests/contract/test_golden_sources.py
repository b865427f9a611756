"""Every source turns its golden raw rows into exactly the expected pairs, and quarantines the rest as expected."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from dpo_data import SOURCES, convert, open_prepared
from dpo_data.options import Form

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sources"
KEPT = ("prompt", "chosen", "rejected", "chosen_score", "rejected_score")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def came_out(folder: Path) -> list[dict[str, Any]]:
    """What became of each raw row, in their order: its pair without empty fields, or its code and field."""
    rows = [
        {"line": int(row["origin"].rpartition(":")[2])}
        | {name: row[name] for name in KEPT if row.get(name) is not None}
        for batch in open_prepared(folder).batches("train")
        for row in batch.to_pylist()
    ]
    rows += [
        {"line": row["line"], "code": row["code"], "field": row["field"]}
        for row in read_lines(folder / "quarantine" / "train.jsonl")
    ]
    return sorted(rows, key=lambda row: row["line"])


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("source", SOURCES)
def test_golden_rows_come_out_as_expected(source, form, tmp_path):
    golden = FIXTURES / source
    expected = [row for row in read_lines(golden / "expected.jsonl") if row.pop("form") == form]
    raw_lines = (golden / "raw.jsonl").read_text(encoding="utf-8").count("\n")
    assert [row["line"] for row in expected] == list(range(1, raw_lines + 1))
    convert(source, [golden / "raw.jsonl"], output=tmp_path / "out", form=form, max_invalid=1)
    assert came_out(tmp_path / "out") == expected
