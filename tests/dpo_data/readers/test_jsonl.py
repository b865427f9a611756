"""JSON Lines: one row a line, each with its physical line."""

import gzip
import json

import pytest
from raw_files import read_rows, refusal, seen, written

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
def test_utf16_is_refused_with_the_command_that_converts_it(tmp_path, name, codec):
    content = ('{"a": 1}' if codec == "utf-16" else '\ufeff{"a": 1}').encode(codec)
    path = written(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert refusal(path) == (
        f"{tmp_path.name}/{name}: cannot be read: it is UTF-16, not UTF-8; convert it with iconv -f UTF-16 -t UTF-8."
    )
