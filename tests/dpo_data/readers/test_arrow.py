"""Parquet, Arrow and Feather files."""

import json

import numpy as np
import pyarrow as pa
import pytest
from raw_files import TABLE, TABLE_ROWS, read_rows, refusal, seen, write_table, written

from dpo_data.errors import InputError, RowError
from dpo_data.readers.inputs import find_inputs


@pytest.mark.parametrize(
    ("layout", "name"), [("parquet", "a.parquet"), ("file", "a.arrow"), ("stream", "a.arrow"), ("file", "a.feather")]
)
def test_rows_are_numbered_from_one_across_batches(tmp_path, layout, name):
    path = write_table(tmp_path / name, TABLE, layout)
    assert seen(path) == TABLE_ROWS
    assert [row.raw() for row in read_rows(path)][2] == '{"q": null, "n": 3}'


def test_the_numbers_continue_across_the_slices_of_a_long_batch(tmp_path):
    path = write_table(tmp_path / "a.parquet", pa.table({"n": range(2500)}), "parquet")
    assert seen(path) == [(n + 1, {"n": n}) for n in range(2500)]


def test_a_cell_that_is_not_utf8_affects_only_its_own_row(tmp_path):
    offsets, data = pa.py_buffer(b"\0\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"\xff\xfeb")
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    path = write_table(tmp_path / "a.parquet", pa.table({"q": column, "n": [1, 2]}), "parquet")
    assert seen(path) == [
        (1, ("invalid_unicode", "q is not UTF-8: invalid start byte.")),
        (2, {"q": "b", "n": 2}),
    ]
    assert json.loads(read_rows(path)[0].raw())["n"] == 1


def test_a_date_that_python_cannot_hold_affects_only_its_own_row(tmp_path):
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


def test_texts_that_a_table_stores_as_bytes_are_texts_and_other_bytes_stay(tmp_path):
    table = pa.table({"q": pa.array([b"one", b"\xff\xfe", None], pa.binary()), "n": [1, 2, 3]})
    assert seen(write_table(tmp_path / "a.parquet", table, "parquet")) == [
        (1, {"q": "one", "n": 1}),
        (2, {"q": b"\xff\xfe", "n": 2}),
        (3, {"q": None, "n": 3}),
    ]


@pytest.mark.parametrize(("layout", "name"), [("parquet", "a.parquet"), ("stream", "a.arrow"), ("file", "a.arrow")])
def test_long_rows_come_in_chunks_of_few(tmp_path, layout, name):
    table = pa.table({"text": [str(n) * 300_000 for n in range(1, 10)] * 6})
    (file,) = find_inputs([write_table(tmp_path / name, table, layout)])
    chunks = [list(chunk.rows()) for chunk in file.chunks()]
    assert max(map(len, chunks)) <= 7  # of 2 MB
    assert [row.value for rows in chunks for row in rows] == table.to_pylist()
    assert [row.line for rows in chunks for row in rows] == list(range(1, 55))


@pytest.mark.parametrize("value", ["text", [{"role": "user", "content": "text"}]])
@pytest.mark.parametrize("offset", [-5, 2**31 - 1])
def test_offsets_that_point_outside_an_arrow_file_are_refused_by_name(tmp_path, value, offset):
    file = tmp_path / "rows.arrow"
    table = pa.table({"prompt": [value] * 4, "chosen": [value] * 4})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    column = table.column("prompt").chunk(0)
    offsets = (column if isinstance(value, str) else column.values.field("content")).buffers()[1].to_pybytes()
    content = file.read_bytes()
    assert offsets in content
    broken = np.frombuffer(offsets, np.int32).copy()
    broken[2] = offset
    file.write_bytes(content.replace(offsets, broken.tobytes(), 1))
    with pytest.raises(InputError, match=r"rows\.arrow: cannot be read: .*[Oo]ffset"):
        list(find_inputs([file])[0].chunks())
