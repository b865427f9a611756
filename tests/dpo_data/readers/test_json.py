"""JSON files: arrays, JSON Lines, and objects over several lines."""

from raw_files import read_rows, refusal, seen, written


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
