"""Every source turns its golden raw rows into exactly the expected pairs, and accounts for each of the others.

`options.json` beside the rows has arguments that a source cannot do without.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from dpo_data import SOURCES, convert, open_prepared
from dpo_data.options import Form
from dpo_data.prepared.manifest import Manifest
from dpo_data.sources import load_source

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sources"
KEPT = ("prompt", "chosen", "rejected", "tools", "chosen_score", "rejected_score", "margin")
#: Responses of the golden rows begin with what their data set says of them; those of other rows do not matter.
WORDS = ("Worst", "Middle", "Best")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return value


def came_out(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """What became of the raw rows, in their order: pairs without empty fields, codes, and what is left out."""
    rows = [
        {"line": int(row["origin"].rpartition(":")[2])}
        | without_nulls({name: row[name] for name in KEPT if name in row})
        for split, entry in manifest.splits.items()
        if entry.pairs
        for batch in open_prepared(folder).batches(split)
        for row in batch.to_pylist()
    ]
    for path in sorted((folder / "quarantine").glob("*.jsonl")):
        rows += [{"line": row["line"], "code": row["code"], "field": row["field"]} for row in read_lines(path)]
    rows.sort(key=lambda row: row["line"])
    return rows + ([{"left_out": manifest.left_out_by_reason}] if manifest.left_out else [])


def converted(source: str, form: Form, folder: Path) -> Manifest:
    golden = FIXTURES / source
    options = golden / "options.json"
    arguments = json.loads(options.read_text()) if options.exists() else {}
    return convert(source, [golden / "raw.jsonl"], output=folder, form=form, max_invalid=1, **arguments)


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("source", SOURCES)
def test_golden_rows_come_out_as_expected(source: str, form: Form, tmp_path: Path) -> None:
    expected = [row for row in read_lines(FIXTURES / source / "expected.jsonl") if row.pop("form") == form]
    manifest = converted(source, form, tmp_path / "out")
    assert came_out(tmp_path / "out", manifest) == expected


@pytest.mark.parametrize("source", SOURCES)
def test_every_golden_row_is_accounted_for(source: str, tmp_path: Path) -> None:
    raw_rows = (FIXTURES / source / "raw.jsonl").read_text(encoding="utf-8").count("\n")
    manifest = converted(source, "text", tmp_path / "out")
    assert manifest.rows_read == raw_rows == manifest.rows_paired + manifest.quarantined + manifest.left_out
    assert manifest.left_out == sum(manifest.left_out_by_reason.values())


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("source", [name for name in SOURCES if not load_source(name).comes_in_pairs])
def test_the_better_response_is_chosen_under_every_policy(source: str, form: Form, tmp_path: Path) -> None:
    options = FIXTURES / source / "options.json"
    arguments = json.loads(options.read_text()) if options.exists() else {}
    seen = Counter[str]()
    for pairing in ("best-worst", "best-rest", "all", "adjacent", "random"):
        folder = tmp_path / pairing
        raw = FIXTURES / source / "raw.jsonl"
        manifest = convert(source, [raw], output=folder, form=form, pairing=pairing, max_invalid=1, **arguments)
        for row in came_out(folder, manifest):
            if "chosen" in row:
                chosen, rejected = (WORDS.index(first_word(row[side])) for side in ("chosen", "rejected"))
                assert chosen > rejected, row
                seen[pairing] += 1
    assert min(seen.values()) >= 2
    assert len(seen) == 5


def first_word(side: str | list[dict[str, str]]) -> str:
    """The word that a golden response begins with; a call of a tool is the best that a golden row has."""
    if isinstance(side, list) and side[-1].get("tool_calls"):
        return "Best"
    text = side if isinstance(side, str) else side[-1]["content"]
    return text.strip().partition(":")[0]
