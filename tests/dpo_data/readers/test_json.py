"""JSON files: arrays, JSON Lines, and objects over several lines."""

import json
from typing import Any

import pytest
from raw_files import read_rows, refusal, seen, written

from dpo_data.readers import rows
from dpo_data.readers.inputs import find_inputs


def test_each_object_of_an_array_has_the_line_where_it_starts(tmp_path):
    path = written(tmp_path / "a.json", '[\n  {\n    "a": 1\n  },\n\n  {"a": 2}, {"a": 3},\n  {"a":\n 4}\n]\n')
    assert seen(path) == [(2, {"a": 1}), (6, {"a": 2}), (6, {"a": 3}), (7, {"a": 4})]


def test_objects_need_no_array(tmp_path):
    path = written(tmp_path / "a.json", '{\n"a": 1\n}\n{\n"a": 2\n} {"a": 3}')
    assert seen(path) == [(1, {"a": 1}), (4, {"a": 2}), (6, {"a": 3})]


def test_a_broken_line_of_json_lines_is_skipped_alone(tmp_path):
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


def test_a_scalar_in_an_array_is_an_unreadable_row(tmp_path):
    path = written(tmp_path / "a.json", '[{"a": 1}, 17, "x"]')
    assert [value if isinstance(value, dict) else value[1] for _, value in seen(path)] == [
        {"a": 1},
        "the record is int, not an object with named fields.",
        "the record is str, not an object with named fields.",
    ]


def test_a_truncated_array_is_refused_with_the_line(tmp_path):
    path = written(tmp_path / "a.json", '[\n{"a": 1},\n{"a": 2},\n')
    message = 'cannot be read: the array does not end: "]" is missing at line 4.'
    assert refusal(path) == f"{tmp_path.name}/a.json: {message}"


def test_an_array_with_a_broken_value_is_refused_with_the_line(tmp_path):
    path = written(tmp_path / "a.json", '[\n{"a": 1},\n{"a" 2},\n{"a": 3}\n]')
    assert refusal(path) == (
        f"{tmp_path.name}/a.json: cannot be read: broken JSON at line 3: "
        "Expecting ':' delimiter; the text after it cannot be separated."
    )


def test_a_byte_order_mark_is_removed(tmp_path):
    assert seen(written(tmp_path / "a.json", '\ufeff[{"a": 1}]')) == [(1, {"a": 1})]


def test_keys_that_name_a_split_give_their_records_that_split(tmp_path):
    rows = {"train": [{"a": 1}, {"a": 2}], "Validation": [{"a": 3}], "test": [], "data": [{"a": 4}]}
    path = written(tmp_path / "test.json", json.dumps(rows, indent=1))
    (file,) = find_inputs([path])
    assert [(chunk.split, [row.value["a"] for row in chunk.rows()]) for chunk in file.chunks()] == [
        ("train", [1, 2]),
        ("test", [3]),
        ("test", [4]),  # of the file's name
    ]
    (file,) = find_inputs([path], split="train")
    assert {chunk.split for chunk in file.chunks()} == {"train"}


def test_records_in_an_object_have_the_lines_where_they_start(tmp_path):
    path = written(tmp_path / "a.json", '{"info":\n{"data": [1]},\n"data": [\n{"a": 1},\n{"a": 2}\n],\n"end": 0}\n')
    assert seen(path) == [(4, {"a": 1}), (5, {"a": 2})]


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1 << 20])
def test_records_in_an_object_do_not_depend_on_chunk_borders(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(rows, "CHUNK_BYTES", chunk_bytes)
    content = {"a": {"b": ["]", "}"]}, "train": [{"n": n, "t": "[{" * n} for n in range(20)], "test": [{"n": 20}]}
    path = written(tmp_path / "a.json", json.dumps(content))
    assert [row.value for row in read_rows(path)] == content["train"] + content["test"]


def test_objects_with_a_list_of_objects_are_records_where_several_follow(tmp_path):
    lines = '{"data": [{"a": 1}]}\n{"data": [{"a": 2}]}\n'
    for name in ("a.json", "a.jsonl"):
        assert seen(written(tmp_path / name, lines)) == [(1, {"data": [{"a": 1}]}), (2, {"data": [{"a": 2}]})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"data": [{"a": 1}], ', "broken JSON at line 1: Expecting property name enclosed in double quotes"),
        ('[{"a": 1}]\n{"a": 2}', "more text follows the end of the records at line 2."),
    ],
)
def test_what_cannot_be_separated_is_refused(tmp_path, content, reason):
    assert refusal(written(tmp_path / "a.json", content)).partition("cannot be read: ")[2].startswith(reason)


def test_a_long_object_with_records_is_refused_where_it_does_not_end(tmp_path):
    content = json.dumps({"data": [{"text": "x" * 3000}] * 900})
    assert refusal(written(tmp_path / "a.json", content[:-1])).endswith(
        'cannot be read: the object does not end: "}" is missing at line 1.'
    )
    assert (
        refusal(written(tmp_path / "a.json", content[:-3000]))
        .partition("cannot be read: ")[2]
        .startswith("broken JSON at line 1: ")
    )
    assert refusal(written(tmp_path / "a.json", content + "{}")).endswith(
        "cannot be read: more text follows the end of the records at line 1."
    )


def test_a_single_record_whose_fields_are_lists_of_messages_is_a_record(tmp_path):
    message = [{"role": "user", "content": "Hi"}]
    row = {"prompt": message, "chosen": message, "rejected": message}
    for name in ("a.json", "a.jsonl"):
        assert seen(written(tmp_path / name, json.dumps(row))) == [(1, row)]


def test_a_long_value_takes_time_that_grows_with_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK_BYTES", 10)
    decoded = []

    class Decoder(json.JSONDecoder):
        def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
            decoded.append(len(s) - idx)
            return super().raw_decode(s, idx)

    monkeypatch.setattr("dpo_data.readers.json.DECODER", Decoder())
    row = {"text": "x" * 100_000}
    assert [found.value for found in read_rows(written(tmp_path / "a.json", json.dumps([row])))] == [row]
    assert sum(decoded) < 8 * 100_000
