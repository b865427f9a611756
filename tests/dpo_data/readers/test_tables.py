"""CSV and TSV files."""

import csv

import pytest
from raw_files import read_rows, refusal, seen, written

from dpo_data import convert
from dpo_data.errors import InputError, UsageError
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


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_the_delimiter_of_a_csv_file_is_the_one_in_its_header(tmp_path, delimiter):
    path = written(tmp_path / "a.csv", f'\n"q{delimiter}"{delimiter}good\n1,2{delimiter}3\n')
    assert seen(path) == [(3, {f"q{delimiter}": "1,2", "good": "3"})]


def test_a_comma_in_the_header_outweighs_other_delimiters(tmp_path):
    path = written(tmp_path / "a.csv", "q,good;better;best\n1,2\n")
    assert seen(path) == [(2, {"q": "1", "good;better;best": "2"})]
    assert seen(path, delimiter=";")[0] == (2, ("unreadable_row", "the row has 1 fields, the header 3."))


@pytest.mark.parametrize(("name", "written_as"), [("tab", "\t"), ("\\t", "\t"), ("\t", "\t"), (";", ";"), ("#", "#")])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_delimiter_can_be_named(tmp_path, name, written_as, kind):
    path = written(tmp_path / f"a.{kind}", f"q{written_as}good\n1,2{written_as}3\n")
    assert seen(path, delimiter=name) == [(2, {"q": "1,2", "good": "3"})]


@pytest.mark.parametrize("delimiter", ["", ";;", "\n", '"', "comma"])
def test_a_delimiter_is_one_character(tmp_path, delimiter):
    with pytest.raises(UsageError, match=r'must be one character, or "tab"\.'):
        find_inputs([written(tmp_path / "a.csv", "")], delimiter=delimiter)


UNBALANCED = 'q,good,bad\na?,"opens here,no\nb?,x,y\nc?,"z",w\nd?,q,r\n'


def test_rows_that_an_unbalanced_quote_joins_are_refused_together_with_a_warning(tmp_path):
    first, second = read_rows(written(tmp_path / "a.csv", UNBALANCED))
    assert first.value.message == "lines 2 to 4, which quotes join, are not a table row: ',' expected after '\"'."
    assert first.warning == ("unbalanced_quotes", "quotes join lines 2 to 4.")
    assert first.raw() == 'a?,"opens here,no\nb?,x,y\nc?,"z",w\n'
    assert (second.line, second.value, second.warning) == (5, {"q": "d?", "good": "q", "bad": "r"}, None)


def test_rows_that_two_unbalanced_quotes_join_to_one_are_a_warning(tmp_path):
    first, second = read_rows(written(tmp_path / "a.csv", 'q,good,bad\na?,"opens,no\nb?,x,y\nc?,5",w\nd?,q,r\n'))
    assert first.value == {"q": "a?", "good": "opens,no\nb?,x,y\nc?,5", "bad": "w"}
    assert first.warning == (
        "unbalanced_quotes",
        "quotes join lines 2 to 4, each of which has as many fields as the header.",
    )
    assert second.warning is None


def test_fields_of_several_lines_are_no_warning(tmp_path):
    path = written(tmp_path / "a.csv", 'q,good,bad\na?,"Line 1\nLine ""2""\r\nLine, 3",no\nb?,"one,\ntwo",no\n')
    assert [row.warning for row in read_rows(path)] == [None, None]
    path = written(tmp_path / "b.csv", 'q\n"one\ntwo"\n')
    assert [(row.value, row.warning) for row in read_rows(path)] == [({"q": "one\ntwo"}, None)]


def test_reader_warnings_are_counted_by_code_with_origins(tmp_path):
    table = written(tmp_path / "a.csv", UNBALANCED.replace("q,good,bad", "prompt,chosen,rejected"))
    lines = written(tmp_path / "b.jsonl", '{"prompt": "e?", "chosen": "A", "chosen": "B", "rejected": "no"}\n')
    manifest = convert("pairs", [table, lines], output=tmp_path / "out", form="conversational", max_invalid=1)
    assert {code: (found.rows, found.examples) for code, found in manifest.warnings.items()} == {
        "duplicate_key": (
            1,
            [f'{tmp_path.name}/b.jsonl:1: the key "chosen" is there twice; its last value counts.'],
        ),
        "unbalanced_quotes": (1, [f"{tmp_path.name}/a.csv:2: quotes join lines 2 to 4."]),
    }
    assert (manifest.pairs, manifest.quarantined) == (2, 1)


def test_cells_that_spell_a_missing_value_are_counted(tmp_path):
    table = written(tmp_path / "a.csv", "prompt,chosen,rejected\na?,,y\nb?,NaN,y\nc?,None,y\nd?,x,null\ne?,x,y\n")
    manifest = convert("pairs", table, output=tmp_path / "out", form="text", max_invalid=1)
    assert manifest.quarantined_by_code == {"empty_response": 1}
    assert manifest.warnings["null_response"].rows == 3
