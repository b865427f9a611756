"""CSV and TSV files."""

import csv

import pytest
from raw_files import read_rows, refusal, seen, written

from dpo_data.errors import InputError
from dpo_data.readers.inputs import find_inputs


def test_lines_are_physical_lines_across_quoted_line_ends(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n"one\ntwo","x"\n\n"three ""3""",y\r\n"a,b",z\n')
    assert seen(path) == [
        (2, {"q": "one\ntwo", "good": "x"}),
        (5, {"q": 'three "3"', "good": "y"}),
        (6, {"q": "a,b", "good": "z"}),
    ]
    assert read_rows(path)[0].raw() == '"one\ntwo","x"\n'


def test_rows_of_another_width_are_unreadable(tmp_path):
    path = written(tmp_path / "a.csv", "q,good\n1\n1,2,3\n1,2\n")
    assert seen(path) == [
        (2, ("unreadable_row", "the row has 1 fields, the header 2.")),
        (3, ("unreadable_row", "the row has 3 fields, the header 2.")),
        (4, {"q": "1", "good": "2"}),
    ]


def test_the_row_after_malformed_quoting_is_read(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n"a"b,c\nd,e\n')
    assert seen(path) == [
        (2, ("unreadable_row", "the line is not a table row: ',' expected after '\"'.")),
        (3, {"q": "d", "good": "e"}),
    ]
    assert read_rows(path)[0].raw() == '"a"b,c\n'


def test_a_file_that_ends_inside_quotes_is_refused_with_the_line_where_they_open(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good\n1,2\n3,"4\n5,6\n7,8\n')
    assert refusal(path) == (
        f"{tmp_path.name}/a.csv: cannot be read: it ends inside a quoted field that starts at line 3."
    )


def test_a_header_that_names_a_column_twice_is_refused(tmp_path):
    path = written(tmp_path / "a.csv", "q,good,q\n1,2,3\n")
    assert refusal(path) == f"{tmp_path.name}/a.csv: cannot be read: the header names a column twice: q, good, q."


def test_a_malformed_header_is_not_replaced_by_the_next_row(tmp_path):
    path = written(tmp_path / "a.csv", '"q"x,good\n1,2\n3,4\n')
    assert refusal(path) == f"{tmp_path.name}/a.csv: cannot be read: the header is malformed: ',' expected after '\"'."


def test_the_header_may_follow_blank_lines_and_a_byte_order_mark(tmp_path):
    assert seen(written(tmp_path / "a.csv", "\ufeffq,good\n1,2\n")) == [(2, {"q": "1", "good": "2"})]
    assert seen(written(tmp_path / "b.csv", "\n\nq,good\n1,2\n")) == [(4, {"q": "1", "good": "2"})]


def test_the_columns_of_the_header_are_declared_with_the_rows(tmp_path):
    (file,) = find_inputs([str(written(tmp_path / "a.csv", "q,good\n1,2\n"))])
    assert [chunk.columns for chunk in file.chunks()] == [["q", "good"]]


def test_fields_may_have_any_length(tmp_path):
    long = "x" * 200_000  # the csv module's own limit is 131,072
    assert seen(written(tmp_path / "a.csv", f"q,good\n{long},y\n")) == [(2, {"q": long, "good": "y"})]


def test_tsv_fields_are_separated_at_tabs_alone(tmp_path):
    path = written(tmp_path / "a.tsv", "q\tgood\na,b\tc\n")
    assert seen(path) == [(2, {"q": "a,b", "good": "c"})]


def test_the_field_limit_of_the_csv_module_is_that_of_the_process_between_rows(tmp_path):
    limit = csv.field_size_limit()
    (file,) = find_inputs([written(tmp_path / "a.csv", f"q,good\n{'x' * 200_000},y\n")])
    chunks = file.chunks()
    next(chunks)
    assert csv.field_size_limit() == limit  # while the file is still open
    assert list(chunks) == []
    with pytest.raises(InputError):
        read_rows(written(tmp_path / "b.csv", 'q,good\n1,"2\n'))
    assert csv.field_size_limit() == limit
