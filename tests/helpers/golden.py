"""Golden rows: raw rows of every source and their expected outcome, in tests/fixtures/sources/NAME/.

`raw.jsonl` is written by hand, `expected.jsonl` by tests/new_source.py and then reviewed. `options.json` has arguments
of `convert` that a source requires.
"""

import json
from pathlib import Path
from typing import Any, get_args

from dpo_data import SOURCES, convert, open_prepared
from dpo_data.options import Form
from dpo_data.prepared.manifest import Manifest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sources"
FILES = ("raw.jsonl", "expected.jsonl")
#: Sources whose fixture is complete; a test of its own fails for each of the others.
GOLDEN_SOURCES = [name for name in SOURCES if all((FIXTURES / name / file).is_file() for file in FILES)]
COLUMNS = ("prompt", "chosen", "rejected", "tools", "chosen_score", "rejected_score", "margin")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def raw_rows(source: str) -> list[dict[str, Any]]:
    return read_lines(FIXTURES / source / "raw.jsonl")


def required_options(source: str) -> dict[str, Any]:
    """Return the arguments of `convert` that the source requires."""
    path = FIXTURES / source / "options.json"
    return json.loads(path.read_text()) if path.exists() else {}


def convert_golden(source: str, folder: Path, form: Form, **options: Any) -> Manifest:
    """Convert the golden rows of a source."""
    raw = FIXTURES / source / "raw.jsonl"
    return convert(source, [raw], output=folder, form=form, max_invalid=1, **required_options(source), **options)


def outcome(folder: Path, manifest: Manifest) -> list[dict[str, Any]]:
    """Return what became of the raw rows, in order: pairs, codes of quarantined rows, and counts of rows left out."""
    rows = [
        {"line": int(row["origin"].rpartition(":")[2])}
        | without_nulls({name: row[name] for name in COLUMNS if name in row})
        for split, entry in manifest.splits.items()
        if entry.pairs
        for batch in open_prepared(folder).batches(split)
        for row in batch.to_pylist()
    ]
    for path in sorted((folder / "quarantine").glob("*.jsonl")):
        rows += [{"line": row["line"], "code": row["code"], "field": row["field"]} for row in read_lines(path)]
    rows.sort(key=lambda row: row["line"])
    return rows + ([{"left_out": manifest.left_out_by_reason}] if manifest.left_out else [])


def expected_rows(source: str, folder: Path) -> list[dict[str, Any]]:
    """Return the lines of expected.jsonl as the code gives them now; `folder` is for the converted rows."""
    return [
        {"form": form} | row
        for form in get_args(Form)
        for row in outcome(folder / form, convert_golden(source, folder / form, form))
    ]


def without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return value
