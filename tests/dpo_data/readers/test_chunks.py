"""Chunks: the same rows with the same lines, whatever their size."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_files import seen, written

from dpo_data.readers import rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
OBJECTS = st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(-99, 99)), max_size=2)
BROKEN = ["{broken", "nonsense", '{"a": 1', '{"a"']
CHUNK_SIZES = st.integers(4, 60)


def small_chunks_see(path: Path, chunk_bytes: int) -> list[tuple[int, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
        return [(line, "broken" if isinstance(value, tuple) else value) for line, value in seen(path)]


def dumps(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.one_of(OBJECTS, st.sampled_from([*BROKEN, "", "  ", "12345678", "[1, 2]", "true"])), max_size=8),
    newline=st.sampled_from(["\n", "\r\n"]),
    ends=st.booleans(),
    mark=st.booleans(),
    chunk_bytes=CHUNK_SIZES,
)
def test_jsonl_rows_do_not_depend_on_chunk_borders(tmp_path_factory, lines, newline, ends, mark, chunk_bytes):
    text = newline.join(line if isinstance(line, str) else dumps(line) for line in lines) + newline * ends
    expected = [
        (number, "broken" if isinstance(line, str) else line)
        for number, line in enumerate(lines, 1)
        if not (isinstance(line, str) and not line.strip())
    ]
    path = written(tmp_path_factory.getbasetemp() / "chunks.jsonl", "\ufeff" * mark + text)
    assert small_chunks_see(path, chunk_bytes) == expected


@settings(max_examples=150, deadline=None)
@given(
    objects=st.lists(OBJECTS, max_size=6),
    indent=st.sampled_from([None, 1]),
    layout=st.sampled_from(["array", "objects"]),
    chunk_bytes=CHUNK_SIZES,
)
def test_json_rows_do_not_depend_on_chunk_borders(tmp_path_factory, objects, indent, layout, chunk_bytes):
    opening, separator, end = ("[\n", ",\n", "\n]") if layout == "array" else ("", "\n", "")
    text, expected = opening, []
    # The layout of the first object decides how the others are read.
    for value in [{"first": 1}, *objects]:
        expected.append((text.count("\n") + 1, value))
        text += dumps(value, indent) + separator
    path = written(tmp_path_factory.getbasetemp() / "chunks.json", text.removesuffix(separator) + end)
    assert small_chunks_see(path, chunk_bytes) == expected


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.one_of(OBJECTS, st.sampled_from([*BROKEN, "", "12345678", "true"])), max_size=8),
    chunk_bytes=CHUNK_SIZES,
)
def test_json_lines_in_a_json_file_do_not_depend_on_chunk_borders(tmp_path_factory, lines, chunk_bytes):
    lines = [{"first": 1}, *lines]
    text = "\n".join(line if isinstance(line, str) else dumps(line) for line in lines)
    expected = [(n, "broken" if isinstance(line, str) else line) for n, line in enumerate(lines, 1) if line != ""]
    path = written(tmp_path_factory.getbasetemp() / "chunks.json", text)
    assert small_chunks_see(path, chunk_bytes) == expected


@settings(max_examples=100, deadline=None)
@given(
    cells=st.lists(st.tuples(TEXTS, TEXTS), max_size=8),
    delimiter=st.sampled_from([("csv", ","), ("tsv", "\t")]),
    chunk_bytes=CHUNK_SIZES,
)
def test_table_rows_do_not_depend_on_chunk_borders(tmp_path_factory, cells, delimiter, chunk_bytes):
    kind, character = delimiter

    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    text, expected = f"q{character}good\n", []
    for cells_of_row in cells:
        # Lines end at "\n", "\r" and "\r\n", as Python reads lines.
        line = len(io.StringIO(text, newline="").readlines()) + 1
        expected.append((line, dict(zip(("q", "good"), cells_of_row, strict=True))))
        text += character.join(map(quoted, cells_of_row)) + "\n"
    path = written(tmp_path_factory.getbasetemp() / f"chunks.{kind}", text)
    assert small_chunks_see(path, chunk_bytes) == expected
