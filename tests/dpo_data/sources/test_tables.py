"""Tables give the pairs that JSON Lines give: with every column, and without one that the adapter does not read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from golden import GOLDEN_SOURCES, outcome, raw_rows, required_options

from dpo_data import convert, open_prepared
from dpo_data.errors import InputError

#: hh-rlhf has raw lines that are not JSON, and no further columns.
SOURCES = [name for name in GOLDEN_SOURCES if name != "hh-rlhf"]


def tables(source: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the golden rows of a source in groups with the same columns, and values of the same types."""
    groups: list[list[dict[str, Any]]] = []
    for record in raw_rows(source):
        row = record if isinstance(record, dict) else {"records": record}
        # pyarrow 18 sorts the keys inside of values.
        row = {name: json.loads(json.dumps(value, sort_keys=True)) for name, value in row.items()}
        fitting = (group for group in groups if list(group[0]) == list(row) and as_table([*group, row]) is not None)
        if (group := next(fitting, None)) is not None:
            group.append(row)
        elif as_table([row]) is not None:
            groups.append([row])
    yield from groups


def as_table(rows: list[dict[str, Any]]) -> pa.Table | None:
    try:
        return pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]})
    except (pa.ArrowException, OverflowError):
        return None


def pairs(source: str, rows: list[dict[str, Any]], file: Path) -> list[dict[str, Any]] | None:
    """Return the pairs of rows in a file of the format that its name says, or None if the file is refused."""
    if file.suffix == ".arrow":
        table = as_table(rows)
        assert table is not None
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    output = file.with_suffix("")
    options = {"form": "conversational", "max_invalid": 1} | required_options(source)
    try:
        manifest = convert(source, [file], output=output, overwrite=True, **options)
    except InputError:
        return None
    return [row for row in outcome(output, manifest) if "chosen" in row]


@pytest.mark.parametrize("source", SOURCES)
def test_a_table_gives_the_pairs_of_json_lines(source: str, tmp_path: Path) -> None:
    compared = 0
    for rows in tables(source):
        lines, table = (pairs(source, rows, tmp_path / f"rows.{format_}") for format_ in ("jsonl", "arrow"))
        assert (table or []) == (lines or [])
        compared += len(lines or [])
    assert compared >= 1


@pytest.mark.parametrize("source", SOURCES)
def test_a_table_without_a_column_is_refused_only_if_no_row_can_be_read(source: str, tmp_path: Path) -> None:
    for rows in tables(source):
        for column in rows[0]:
            less = [{name: value for name, value in row.items() if name != column} for row in rows]
            lines, table = (pairs(source, less, tmp_path / f"rows.{format_}") for format_ in ("jsonl", "arrow"))
            if lines:
                assert table == lines, column
            else:
                assert not table, column


PKU = {"prompt": "Q", "response_0": "a", "response_1": "b"}
SHP = {"post_id": "p", "history": "Q", "human_ref_A": "a", "human_ref_B": "b", "score_A": 1, "score_B": 5}


@pytest.mark.parametrize(
    ("source", "row", "chosen"),
    [
        ("shp", SHP | {"labels": "0"}, " b"),
        *(
            ("pku-saferlhf", PKU | {"better_response_id": value}, chosen)
            for value, chosen in (("0", " a"), (" 1 ", " b"), ("1.0", " b"), (0.0, " a"), (1.0, " b"))
        ),
        *(("pku-saferlhf", PKU | {"better_response_id": value}, None) for value in ("2", "1.5", 0.5, "b")),
    ],
)
def test_a_choice_may_be_a_number_as_tables_write_it(tmp_path, write_rows, source, row, chosen):
    axis = "better" if source == "pku-saferlhf" else None
    raw = write_rows(tmp_path / "a.jsonl", [row])
    manifest = convert(source, raw, output=tmp_path / "out", axis=axis, max_invalid=1)
    found = [text for batch in open_prepared(tmp_path / "out").batches("train") for text in batch["chosen"].to_pylist()]
    assert found == [text for text in [chosen] if text is not None]
    assert manifest.quarantined_by_code == ({"wrong_type": 1} if chosen is None else {})
