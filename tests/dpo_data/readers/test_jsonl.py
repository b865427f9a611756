"""JSON Lines: one row a line, each with its physical line."""

import gzip
import json

import pytest
from raw_files import read_rows, seen, written

from dpo_data.errors import RowError


def test_blank_lines_are_counted_and_skipped(tmp_path):
    path = written(tmp_path / "a.jsonl", '\n{"a": 1}\n\n  \t\n{"a": 2}\n\n')
    assert seen(path) == [(2, {"a": 1}), (5, {"a": 2})]


def test_windows_line_ends_are_read(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\r\n\r\n{"a": 2}\r\n')
    assert seen(path) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_byte_order_mark_is_removed_from_the_first_line_and_its_raw_text(tmp_path):
    path = written(tmp_path / "a.jsonl", '\ufeff{"a": 1}\n{"a": 2}')
    assert seen(path) == [(1, {"a": 1}), (2, {"a": 2})]
    assert [row.raw() for row in read_rows(path)] == ['{"a": 1}', '{"a": 2}']


def test_unicode_line_separators_stay_inside_strings(tmp_path):
    text = "one\u2028two\u2029three\u0085four\x0b"
    path = written(tmp_path / "a.jsonl", json.dumps({"a": text}, ensure_ascii=False) + '\n{"a": 2}\n')
    assert seen(path) == [(1, {"a": text}), (2, {"a": 2})]


def test_a_broken_line_is_reported_with_its_column_and_the_next_one_is_read(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"a": 1}\n{"a": }\n{"a": 3}\n')
    assert seen(path) == [
        (1, {"a": 1}),
        (2, ("unreadable_row", "the line is not JSON: Expecting value (column 7).")),
        (3, {"a": 3}),
    ]


@pytest.mark.parametrize(
    ("line", "kind"), [("[1, 2]", "list"), ('"text"', "str"), ("17", "int"), ("null", "NoneType"), ("true", "bool")]
)
def test_a_line_that_is_not_an_object_is_refused(tmp_path, line, kind):
    path = written(tmp_path / "a.jsonl", f'{{"a": 1}}\n{line}\n')
    message = f"the record is {kind}, not an object with named fields."
    assert seen(path) == [(1, {"a": 1}), (2, ("unreadable_row", message))]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a": ' + "1" * 5000 + "}"], ids=["too deep", "too many digits"])
def test_json_that_python_refuses_is_an_unreadable_row(tmp_path, line):
    path = written(tmp_path / "a.jsonl", f'{line}\n{{"a": 2}}\n')
    first, second = read_rows(path)
    assert isinstance(first.value, RowError)
    assert first.value.code == "unreadable_row"
    assert first.raw() == line
    assert second.value == {"a": 2}


def test_invalid_utf8_is_escaped_in_the_raw_text(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": "caf\xe9"}\n{"a": 2}\n')
    first, second = read_rows(path)
    assert first.raw() == '{"a": "caf\\xe9"}'
    assert (second.line, second.value) == (2, {"a": 2})


def test_the_raw_text_of_a_row_is_always_valid_utf8(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": "\xff\xfe \\ud800 \xed\xa0\x80"}\n')
    assert read_rows(path)[0].raw() == '{"a": "\\xff\\xfe \\ud800 \\xed\\xa0\\x80"}'


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("codec", ["utf-16", "utf-16-be"])
def test_utf16_with_a_byte_order_mark_is_read(tmp_path, name, codec):
    text = '{"a": 1}\n{"a": \n{"a": "\u00e7\U0001f600"}'
    content = (text if codec == "utf-16" else "\ufeff" + text).encode(codec)
    path = written(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert seen(path) == [
        (1, {"a": 1}),
        (2, ("unreadable_row", "the line is not JSON: Expecting value (column 7).")),
        (3, {"a": "\u00e7\U0001f600"}),
    ]


def test_a_byte_that_the_encoding_has_not_affects_only_its_own_row(tmp_path):
    path = written(tmp_path / "a.jsonl", b'{"a": "\x80"}\n{"a": "\x81"}\n')  # cp1252 has no 0x81
    assert seen(path, encoding="cp1252") == [(1, {"a": "\u20ac"}), (2, {"a": "\udc81"})]


def test_lines_of_lists_are_not_an_array(tmp_path):
    path = written(tmp_path / "a.jsonl", '[{"a": 1}, {"a": 2}]\n[{"a": 3}, {"a": 4}]\n')
    assert [line for line, _ in seen(path)] == [1, 2]


@pytest.mark.parametrize("first", ["{", "[", '{"a"', '{"a": 1', "[1, 2", '[{"a": 1}', '{"data": [', "nonsense"])
def test_a_broken_first_line_does_not_change_how_the_others_are_read(tmp_path, first):
    path = written(tmp_path / "a.jsonl", f'{first}\n{{"a": 2}}\n{{"a": 3}}\n')
    (line, broken), *others = seen(path)
    assert (line, broken[0], others) == (1, "unreadable_row", [(2, {"a": 2}), (3, {"a": 3})])


def test_json_lines_are_read_as_they_are_where_the_format_is_named(tmp_path):
    path = written(tmp_path / "a.jsonl", '[{"a": 1}]')
    assert seen(path) == [(1, {"a": 1})]
    assert seen(path, input_format="jsonl") == [(1, {"records": [{"a": 1}]})]


LONG = "x" * 3000


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("key", [None, "data"])
def test_arrays_longer_than_what_is_examined_are_read(tmp_path, indent, key):
    array = [{"n": n, "text": LONG} for n in range(900)]
    path = written(tmp_path / "a.jsonl", json.dumps(array if key is None else {"more": 1, key: array}, indent=indent))
    assert path.stat().st_size > 2 << 20
    assert [row.value for row in read_rows(path)] == array


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('{"a": 1, "a": 2}', "a"),
        ('{"a" : 1, "b": 2, "a" : 3}', "a"),
        ('{"a": {"b": 1, "c": [{"d": "x\\": y", "d": 2}]}}', "d"),
        ('{"a\\\\": 1, "b": "\\":", "b": 2}', "b"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_is_there_twice_is_a_warning(tmp_path, line, key, name):
    first, second = read_rows(written(tmp_path / name, f'{line}\n{{"a": 1}}\n'))
    assert first.value == json.loads(line)
    assert first.warning == ("duplicate_key", f'the key "{key}" is there twice; its last value counts.')
    assert second.warning is None


@pytest.mark.parametrize(
    "value",
    [
        {"a": 'He said "so": yes', "b": '{"a": 1, "a": 2}'},
        {"a": [{"b": 1}, {"b": 2}], "b": {"a": '":'}},
        {'a": ': 1, "a\\": 2, "": {"a": []}},
    ],
)
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" , ", " : ")])
def test_keys_of_different_objects_and_in_texts_are_no_warning(tmp_path, value, separators):
    (row,) = read_rows(written(tmp_path / "a.jsonl", json.dumps(value, separators=separators) + "\n"))
    assert (row.value, row.warning) == (value, None)
