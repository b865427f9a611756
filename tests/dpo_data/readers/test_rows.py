"""Raw rows come with their physical position out of every format, and a bad row is an answer, not an exception."""

import bz2
import gzip
import io
import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data.errors import InputError, RowError, UsageError
from dpo_data.readers import rows
from dpo_data.readers.inputs import find_inputs


def read_rows(path: Path | str, **options: Any) -> list[rows.RawRow]:
    (file,) = find_inputs([str(path)], **options)
    return [row for chunk in file.chunks() for row in chunk.rows()]


def seen(path: Path | str, **options: Any) -> list[tuple[int, Any]]:
    """Line and value of each row; of one that cannot be read, its code and message."""
    return [
        (row.line, (row.value.code, row.value.message) if isinstance(row.value, RowError) else row.value)
        for row in read_rows(path, **options)
    ]


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path | str, **options: Any) -> str:
    """The message of the InputError that reading ends with."""
    with pytest.raises(InputError) as caught:
        read_rows(path, **options)
    return str(caught.value)


# JSON lines.


def test_jsonl_counts_blank_lines_and_leaves_them_out(tmp_path):
    path = written(tmp_path / "a.jsonl", '\n{"a": 1}\n\n  \t\n{"a": 2}\n\n')
    assert seen(path) == [(2, {"a": 1}), (5, {"a": 2})]


def test_jsonl_reads_windows_line_ends(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert seen(path) == [(1, {"a": 1}), (3, {"a": 2})]


def test_jsonl_drops_a_byte_order_mark_from_the_first_line_and_its_raw_text(tmp_path):
    path = written(tmp_path / "a.jsonl", '\ufeff{"a": 1}\n{"a": 2}')
    assert seen(path) == [(1, {"a": 1}), (2, {"a": 2})]
    assert [row.raw() for row in read_rows(path)] == ['{"a": 1}', '{"a": 2}']


def test_jsonl_keeps_unicode_line_separators_inside_strings(tmp_path):
    text = "one\u2028two\u2029three\u0085four\x0b"
    path = written(tmp_path / "a.jsonl", json.dumps({"a": text}, ensure_ascii=False) + '\n{"a": 2}\n')
    assert seen(path) == [(1, {"a": text}), (2, {"a": 2})]


def test_jsonl_says_where_a_line_is_broken_and_reads_on(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\n{"a": }\n{"a": 3}\n')
    assert seen(path) == [
        (1, {"a": 1}),
        (2, ("unreadable_row", "the line is not JSON: Expecting value (column 7).")),
        (3, {"a": 3}),
    ]


@pytest.mark.parametrize(
    ("line", "kind"), [("[1, 2]", "list"), ('"text"', "str"), ("17", "int"), ("null", "NoneType"), ("true", "bool")]
)
def test_jsonl_refuses_a_line_that_is_no_object(tmp_path, line, kind):
    path = written(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n')
    message = f"the record is {kind}, not an object with named fields."
    assert seen(path) == [(1, {"a": 1}), (2, ("unreadable_row", message))]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' + "1" * 5000 + "}"], ids=["too deep", "too many digits"])
def test_jsonl_survives_json_that_python_refuses(tmp_path, line):
    path = written(tmp_path / "a.jsonl", f'{line}\n{{"a": 2}}\n')
    first, second = read_rows(path)
    assert isinstance(first.value, RowError)
    assert first.value.code == "unreadable_row"
    assert first.raw() == line
    assert second.value == {"a": 2}


def test_jsonl_keeps_invalid_utf8_recognizable_in_the_raw_text(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": "caf\xe9"}\n{"a": 2}\n')
    first, second = read_rows(path)
    assert first.raw() == '{"a": "caf\\xe9"}'
    assert (second.line, second.value) == (2, {"a": 2})


def test_raw_text_of_a_quarantined_line_is_always_valid_utf8(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": "\xff\xfe \\ud800 \xed\xa0\x80"}\n')
    assert read_rows(path)[0].raw() == '{"a": "\\xff\\xfe \\ud800 \\xed\\xa0\\x80"}'


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_utf16_is_refused_with_the_command_that_converts_it(tmp_path, name, codec):
    content = ('{"a": 1}' if codec == "utf-16" else '\ufeff{"a": 1}').encode(codec)
    path = written(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert refusal(path) == (
        f"{tmp_path.name}/{name}: cannot be read: it is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8."
    )


def test_an_empty_file_has_no_rows(tmp_path):
    for suffix in ("jsonl", "json", "csv", "tsv"):
        assert seen(written(tmp_path / f"a.{suffix}", "")) == []


# JSON.


def test_json_array_over_several_lines_gives_the_line_where_each_object_starts(tmp_path):
    path = written(tmp_path / "a.json", '[\n  {\n    "a": 1\n  },\n\n  {"a": 2}, {"a": 3},\n  {"a":\n 4}\n]\n')
    assert seen(path) == [(2, {"a": 1}), (6, {"a": 2}), (6, {"a": 3}), (7, {"a": 4})]


def test_json_objects_one_after_the_other_need_no_array(tmp_path):
    path = written(tmp_path / "a.json", '{\n"a": 1\n}\n{\n"a": 2\n} {"a": 3}')
    assert seen(path) == [(1, {"a": 1}), (4, {"a": 2}), (6, {"a": 3})]


def test_json_file_of_json_lines_loses_a_broken_line_only(tmp_path):
    path = written(tmp_path / "a.json", '{"a": 1}\n{"a": \n{"a": 3}\nnonsense\n{"a": 5}\n{"a"')
    assert seen(path) == [
        (1, {"a": 1}),
        (2, ("unreadable_row", "the line is not JSON: Expecting ',' delimiter.")),
        (3, {"a": 3}),
        (4, ("unreadable_row", "the line is not JSON: Expecting value.")),
        (5, {"a": 5}),
        (6, ("unreadable_row", "the line is not JSON: Expecting ':' delimiter.")),
    ]
    assert [row.raw() for row in read_rows(path)][1::2] == ['{"a": ', "nonsense", '{"a"']


def test_json_array_with_a_scalar_quarantines_the_scalar(tmp_path):
    path = written(tmp_path / "a.json", '[{"a": 1}, 17, "x"]')
    assert [value if isinstance(value, dict) else value[1] for _, value in seen(path)] == [
        {"a": 1},
        "the record is int, not an object with named fields.",
        "the record is str, not an object with named fields.",
    ]


def test_truncated_json_array_is_refused_with_the_line(tmp_path):
    path = written(tmp_path / "a.json", '[\n{"a": 1},\n{"a": 2},\n')
    message = 'cannot be read: the array does not end: "]" is missing at line 4.'
    assert refusal(path) == f"{tmp_path.name}/a.json: {message}"


def test_json_array_that_breaks_inside_a_value_is_refused_with_the_line(tmp_path):
    path = written(tmp_path / "a.json", '[\n{"a": 1},\n{"a" 2},\n{"a": 3}\n]')
    assert refusal(path) == (
        f"{tmp_path.name}/a.json: cannot be read: broken JSON at line 3: "
        "Expecting ':' delimiter; the rest cannot be told apart."
    )


def test_json_drops_a_byte_order_mark(tmp_path):
    assert seen(written(tmp_path / "a.json", '\ufeff[{"a": 1}]')) == [(1, {"a": 1})]


# Tables of text.


def test_csv_counts_physical_lines_across_quoted_line_ends(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n"one\ntwo","x"\n\n"three ""3""",y\r\n"a,b",z\n')
    assert seen(path) == [
        (2, {"q": "one\ntwo", "good": "x"}),
        (5, {"q": 'three "3"', "good": "y"}),
        (6, {"q": "a,b", "good": "z"}),
    ]
    assert read_rows(path)[0].raw() == '"one\ntwo","x"\n'


def test_csv_refuses_rows_of_another_width(tmp_path):
    path = written(tmp_path / "a.csv", "q,good\n1\n1,2,3\n1,2\n")
    assert seen(path) == [
        (2, ("unreadable_row", "the row has 1 fields, the header 2.")),
        (3, ("unreadable_row", "the row has 3 fields, the header 2.")),
        (4, {"q": "1", "good": "2"}),
    ]


def test_csv_reads_on_after_malformed_quoting(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n"a"b,c\nd,e\n')
    assert seen(path) == [
        (2, ("unreadable_row", "the line is not a table row: ',' expected after '\"'.")),
        (3, {"q": "d", "good": "e"}),
    ]
    assert read_rows(path)[0].raw() == '"a"b,c\n'


def test_csv_that_ends_inside_quotes_is_refused_with_the_line_where_they_open(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n1,2\n3,"4\n5,6\n7,8\n')
    assert refusal(path) == (
        f"{tmp_path.name}/a.csv: cannot be read: it ends inside a quoted field that starts at line 3."
    )


def test_csv_header_that_names_a_column_twice_is_refused(tmp_path):
    path = written(tmp_path / "a.csv", "q,good,q\n1,2,3\n")
    assert refusal(path) == f"{tmp_path.name}/a.csv: cannot be read: the header names a column twice: q, good, q."


def test_csv_with_a_malformed_header_does_not_take_the_next_row_for_it(tmp_path):
    path = written(tmp_path / "a.csv", '"q"x,good\n1,2\n3,4\n')
    assert refusal(path) == f"{tmp_path.name}/a.csv: cannot be read: the header is malformed: ',' expected after '\"'."


def test_csv_header_may_follow_blank_lines_and_a_byte_order_mark(tmp_path):
    assert seen(written(tmp_path / "a.csv", "\ufeffq,good\n1,2\n")) == [(2, {"q": "1", "good": "2"})]
    assert seen(written(tmp_path / "b.csv", "\n\nq,good\n1,2\n")) == [(4, {"q": "1", "good": "2"})]


def test_csv_declares_its_columns_with_its_rows(tmp_path):
    (file,) = find_inputs([str(written(tmp_path / "a.csv", "q,good\n1,2\n"))])
    assert [chunk.columns for chunk in file.chunks()] == [["q", "good"]]


def test_csv_takes_fields_of_any_length(tmp_path):
    long = "x" * 200_000  # the csv module's own limit is 131,072
    assert seen(written(tmp_path / "a.csv", f"q,good\n{long},y\n")) == [(2, {"q": long, "good": "y"})]


def test_tsv_separates_at_tabs_alone(tmp_path):
    path = written(tmp_path / "a.tsv", "q\tgood\na,b\tc\n")
    assert seen(path) == [(2, {"q": "a,b", "good": "c"})]


# Arrow and Parquet.

TABLE = pa.table({"q": ["one", "two", None], "n": [1, 2, 3]})
TABLE_ROWS = [(1, {"q": "one", "n": 1}), (2, {"q": "two", "n": 2}), (3, {"q": None, "n": 3})]


def write_table(path: Path, table: pa.Table, layout: str) -> Path:
    if layout == "parquet":
        pq.write_table(table, path, row_group_size=2)
        return path
    opened = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
    with opened(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize(
    ("layout", "name"), [("parquet", "a.parquet"), ("file", "a.arrow"), ("stream", "a.arrow"), ("file", "a.feather")]
)
def test_tables_number_their_rows_from_one_across_batches(tmp_path, layout, name):
    path = write_table(tmp_path / name, TABLE, layout)
    assert seen(path) == TABLE_ROWS
    assert [row.raw() for row in read_rows(path)][2] == '{"q": null, "n": 3}'


def test_a_long_batch_is_cut_and_numbered_on(tmp_path):
    path = write_table(tmp_path / "a.parquet", pa.table({"n": range(2500)}), "parquet")
    assert seen(path) == [(n + 1, {"n": n}) for n in range(2500)]


def test_a_cell_that_is_no_utf8_spoils_its_own_row_alone(tmp_path):
    offsets, data = pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfeb")
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    path = write_table(tmp_path / "a.parquet", pa.table({"q": column, "n": [1, 2]}), "parquet")
    assert seen(path) == [
        (1, ("invalid_unicode", "q is not UTF-8: invalid start byte.")),
        (2, {"q": "b", "n": 2}),
    ]
    assert json.loads(read_rows(path)[0].raw())["n"] == 1


def test_a_date_that_python_cannot_hold_spoils_its_own_row_alone(tmp_path):
    table = pa.table({"n": [1, 2], "at": pa.array([2**62, 0], pa.timestamp("us"))})
    first, second = read_rows(write_table(tmp_path / "a.arrow", table, "stream"))
    assert isinstance(first.value, RowError)
    assert (first.line, first.value.code, first.value.field) == (1, "unreadable_row", "at")
    assert (second.line, second.value["n"]) == (2, 2)


@pytest.mark.parametrize(("layout", "name"), [("parquet", "a.parquet"), ("stream", "a.arrow")])
def test_a_table_that_names_a_column_twice_is_refused(tmp_path, layout, name):
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["q", "q"])
    path = write_table(tmp_path / name, table, layout)
    assert refusal(path) == f"{tmp_path.name}/{name}: cannot be read: the header names a column twice: q, q."


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.feather"])
@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"ARROW1 and then nothing"])
def test_a_damaged_table_is_refused_by_name(tmp_path, name, content):
    assert refusal(written(tmp_path / name, content)).startswith(f"{tmp_path.name}/{name}: cannot be read: ")


# Compression.

COMPRESS = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}
LINES = "".join(f'{{"n": {n}}}\n' for n in range(3000)).encode()


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_text_reads_like_plain_text(tmp_path, suffix):
    path = written(tmp_path / f"a.jsonl{suffix}", COMPRESS[suffix](LINES))
    assert seen(path) == [(n + 1, {"n": n}) for n in range(3000)]
    path = written(tmp_path / f"a.csv{suffix}", COMPRESS[suffix](b"q\n1\n2\n"))
    assert seen(path) == [(2, {"q": "1"}), (3, {"q": "2"})]
    path = written(tmp_path / f"a.json{suffix}", COMPRESS[suffix](b'[{"q": 1}]'))
    assert seen(path) == [(1, {"q": 1})]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [0.5, 0.999], ids=["half", "all but the trailer"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_truncated_compressed_file_is_refused(tmp_path, suffix, cut, kind):
    content = COMPRESS[suffix](LINES)
    path = written(tmp_path / f"a.{kind}{suffix}", content[: int(len(content) * cut)])
    assert refusal(path) == f"{tmp_path.name}/a.{kind}{suffix}: cannot be read: Truncated compressed stream."


def test_a_gzip_file_with_a_flipped_byte_is_refused(tmp_path):
    content = bytearray(gzip.compress(LINES))
    content[len(content) // 2] ^= 0xFF
    assert refusal(written(tmp_path / "a.jsonl.gz", bytes(content))).startswith(
        f"{tmp_path.name}/a.jsonl.gz: cannot be read: zlib inflate failed"
    )


def test_text_that_only_calls_itself_gzip_is_refused(tmp_path):
    path = written(tmp_path / "a.jsonl.gz", LINES)
    assert refusal(path) == (
        f"{tmp_path.name}/a.jsonl.gz: cannot be read: zlib inflate failed: incorrect header check."
    )


def test_concatenated_gzip_members_are_one_file(tmp_path):
    content = gzip.compress(b'{"n": 1}\n{"n"') + gzip.compress(b": 2}\n") + gzip.compress(b'{"n": 3}\n')
    assert seen(written(tmp_path / "a.jsonl.gz", content)) == [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.arrow.zst"])
def test_compressed_tables_are_refused(tmp_path, name):
    path = written(tmp_path / name, b"")
    format_ = name.split(".")[1]
    assert refusal(path) == f"{path}: {format_} files are read in place and cannot be compressed as a whole."


# Chunks: whatever their size, the same rows with the same lines.

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
    # The first object tells whether objects stand on one line each.
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
        # Lines end at "\n", "\r" and "\r\n", as Python's own line reading has it.
        line = len(io.StringIO(text, newline="").readlines()) + 1
        expected.append((line, dict(zip(("q", "good"), cells_of_row, strict=True))))
        text += character.join(map(quoted, cells_of_row)) + "\n"
    path = written(tmp_path_factory.getbasetemp() / f"chunks.{kind}", text)
    assert small_chunks_see(path, chunk_bytes) == expected


def test_only_the_first_chunk_opens_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_BYTES", 10)
    (file,) = find_inputs([str(written(tmp_path / "a.jsonl", '\n{"a": 1}\n{"a": 2}\n{"a": 3}\n'))])
    assert [chunk.opens_file for chunk in file.chunks()] == [True, False, False]


# Finding files.


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data.jsonl", "train"),
        ("test.jsonl", "test"),
        ("train.jsonl", "train"),
        ("test/data.jsonl", "test"),
        ("test/train.jsonl", "train"),  # the file's own name wins
        ("train/test.jsonl", "test"),
        ("test/some/data.jsonl", "train"),  # a folder further up says nothing
        ("harmless-base-test-part1.jsonl", "test"),
        ("TEST.jsonl", "test"),
        ("validation-00000-of-00001.jsonl", "test"),
        ("dev_set.jsonl", "test"),
        ("my.eval.jsonl", "test"),
        ("training.jsonl", "train"),
        ("latest.jsonl", "train"),
        ("contest/testimony.jsonl", "train"),
        ("test_runs/pairs.jsonl", "train"),  # of a folder only the whole name counts
        ("Validation/pairs.jsonl", "test"),
        ("constrained.jsonl", "train"),
    ],
)
def test_the_split_is_read_off_the_path(tmp_path, path, split):
    (file,) = find_inputs([str(written(tmp_path / "base" / path, ""))])
    assert file.split == split


def test_a_split_that_is_said_wins_over_every_path(tmp_path):
    (file,) = find_inputs([str(written(tmp_path / "test.jsonl", ""))], split="train")
    assert file.split == "train"


@pytest.mark.parametrize("relative", ["a.jsonl", "*.jsonl", ".", "../test", "../test/*.jsonl", "../test/a.jsonl"])
def test_labels_and_splits_do_not_depend_on_the_working_directory(tmp_path, monkeypatch, relative):
    folder = written(tmp_path / "test" / "a.jsonl", '{"a": 1}').parent
    monkeypatch.chdir(folder)
    (file,) = find_inputs([relative])
    assert (file.label, file.split) == ("test/a.jsonl", "test")
    monkeypatch.chdir("/")
    (file,) = find_inputs([str(folder / relative)])
    assert (file.label, file.split) == ("test/a.jsonl", "test")


def test_labels_of_several_inputs_start_at_the_folder_that_holds_them_all(tmp_path):
    inputs = [str(written(tmp_path / name, "")) for name in ("x/a/1.jsonl", "x/b/c/1.jsonl", "x/b/2.csv")]
    assert [file.label for file in find_inputs(inputs)] == ["x/a/1.jsonl", "x/b/c/1.jsonl", "x/b/2.csv"]


def test_a_folder_is_searched_to_the_bottom_in_sorted_order(tmp_path):
    for name in ("b.jsonl", "a/z.JSON", "a/test/y.csv.GZ", "notes.txt", "x.jsonl.bak", ".hidden.jsonl", ".git/x.json"):
        written(tmp_path / "in" / name, "")
    files = find_inputs([str(tmp_path / "in")])
    assert [(file.label.split("in/")[1], file.split, file.format, file.compression) for file in files] == [
        ("a/test/y.csv.GZ", "test", "csv", "gzip"),
        ("a/z.JSON", "train", "json", None),
        ("b.jsonl", "train", "jsonl", None),
    ]


def test_a_glob_gives_its_matches_in_sorted_order(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.csv", "sub/d.jsonl"):
        written(tmp_path / name, "")
    assert [Path(file.location).name for file in find_inputs([str(tmp_path / "*.jsonl")])] == ["a.jsonl", "b.jsonl"]
    found = find_inputs([str(tmp_path / "**" / "*.jsonl")])
    assert [Path(file.location).name for file in found] == ["a.jsonl", "b.jsonl", "d.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    path = written(tmp_path / "a[1].jsonl", '{"a": 1}')
    assert seen(path) == [(1, {"a": 1})]


def test_inputs_that_are_not_there_are_refused_by_name(tmp_path):
    missing, empty = tmp_path / "none.jsonl", tmp_path / "empty"
    written(empty / "notes.txt", "")
    with pytest.raises(InputError) as caught:
        find_inputs([str(missing)])
    assert str(caught.value) == f"{missing}: there is no such file."
    with pytest.raises(InputError) as caught:
        find_inputs([str(tmp_path / "*.csv")])
    assert str(caught.value) == f"{tmp_path / '*.csv'}: no file matches."
    with pytest.raises(InputError) as caught:
        find_inputs([str(empty)])
    assert str(caught.value) == (
        f"{empty}: no file of a known format in this folder.\n"
        "  Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .feather, "
        "text formats also with .gz, .zst, .bz2."
    )


def test_a_name_that_does_not_tell_the_format_is_refused_unless_it_is_said(tmp_path):
    path = written(tmp_path / "rows.txt", '{"a": 1}\n')
    assert refusal(path) == (
        f"{path}: the name does not tell the format.\n"
        "  Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .feather, text formats also with .gz, .zst, "
        ".bz2; or say it: --input-format jsonl|json|csv|tsv|parquet|arrow."
    )
    assert seen(path, input_format="jsonl") == [(1, {"a": 1})]
    assert seen(written(tmp_path / "rows", b"q\n1\n"), input_format="csv") == [(2, {"q": "1"})]


def test_a_file_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    written(tmp_path / "a.jsonl", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_inputs(["a.jsonl", str(tmp_path / "*.jsonl")])
    assert str(caught.value) == f"an input is named twice: {tmp_path.name}/a.jsonl."


def test_a_prepared_folder_is_no_raw_input(tmp_path):
    written(tmp_path / "out" / "manifest.json", "{}")
    with pytest.raises(UsageError, match="is a prepared folder already"):
        find_inputs([str(tmp_path / "out")])


# URLs.


def test_urls_of_fsspec_are_read_and_matched_by_globs():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/rows/train.jsonl": b'{"a": 1}\n', "/rows/test.jsonl.gz": gzip.compress(b'{"a": 2}\n{"a": 3}\n')})
    memory.pipe("/rows/table.parquet", _parquet_bytes())
    assert seen("memory://rows/test.jsonl.gz") == [(1, {"a": 2}), (2, {"a": 3})]
    assert seen("memory://rows/table.parquet") == TABLE_ROWS
    files = find_inputs(["memory://rows/*.jsonl*"])
    assert [(file.label, file.split) for file in files] == [
        ("memory:///rows/test.jsonl.gz", "test"),
        ("memory:///rows/train.jsonl", "train"),
    ]
    assert [row.value for file in files for chunk in file.chunks() for row in chunk.rows()] == [
        {"a": 2},
        {"a": 3},
        {"a": 1},
    ]


def test_a_url_that_leads_nowhere_is_refused_with_the_ways_out():
    assert refusal("memory://rows/none.jsonl") == (
        "memory://rows/none.jsonl: cannot be reached: /rows/none.jsonl.\n"
        "  Read a file you have: --input FILE. Or try the embedded sample: --sample (sources that have one)."
    )
    assert refusal("memory://rows/*.csv") == "memory://rows/*.csv: no file matches."
    assert refusal("nonsense://a.jsonl").startswith("nonsense://a.jsonl: cannot be reached: Protocol not known")


def _parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


# Standard input.


@pytest.fixture
def piped(monkeypatch):
    """A function that makes bytes the standard input, through a real pipe, which cannot be sought in."""
    threads = []

    def pipe(content: bytes) -> None:
        read_end, write_end = os.pipe()

        def feed() -> None:
            with suppress(BrokenPipeError), os.fdopen(write_end, "wb") as sink:
                sink.write(content)

        threads.append(threading.Thread(target=feed))
        threads[-1].start()
        stdin = open(read_end, encoding="utf-8")  # noqa: SIM115
        opened.append(stdin)
        monkeypatch.setattr(sys, "stdin", stdin)

    opened: list[Any] = []
    yield pipe
    for stdin in opened:
        stdin.close()
    for thread in threads:
        thread.join()


def test_standard_input_is_json_lines_unless_said_otherwise(piped):
    piped(LINES)
    (file,) = find_inputs(["-"])
    assert (file.label, file.split, file.size_bytes()) == ("stdin", "train", None)
    assert seen("-") == [(n + 1, {"n": n}) for n in range(3000)]
    piped(b"q,good\n1,2\n")
    assert seen("-", input_format="csv", split="test") == [(2, {"q": "1", "good": "2"})]
    piped(b'[{"a": 1}]')
    assert seen("-", input_format="json") == [(1, {"a": 1})]


@pytest.mark.parametrize("layout", ["parquet", "file", "stream"])
def test_tables_from_a_pipe_are_refused_since_they_must_be_sought_in(piped, tmp_path, layout):
    piped(write_table(tmp_path / "a.parquet", TABLE, layout).read_bytes())
    input_format = "parquet" if layout == "parquet" else "arrow"
    assert refusal("-", input_format=input_format) == (
        f"stdin: cannot be read: {input_format} files are read in place, not from a pipe; save it to a file first."
    )
