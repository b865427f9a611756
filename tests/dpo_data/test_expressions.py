"""Expressions: what they mean (against pyarrow's own evaluation), what a null decides, and what is refused."""

import copy
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data.errors import UsageError
from dpo_data.expressions import parse_expression, row_values


def holds(text: str, row: dict[str, Any], *, cells: bool = False) -> bool | None:
    return parse_expression(text).holds(row_values(row, lambda row, path: row.get(path), cells=cells))


def refusal(text: str, row: dict[str, Any] | None = None, *, cells: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        holds(text, row or {}, cells=cells)
    return caught.value.message


ROW = {
    "score": 3,
    "ratio": 2.5,
    "lang": "en",
    "flagged": False,
    "tags": ["a", "b"],
    "my column": 1,
    "a.b": 2,
    "none_": None,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("score >= 3", True),
        ("score > 3", False),
        ("1 < score <= 3", True),
        ("score == 3.0", True),
        ("score != 3", False),
        ("ratio > -1.5", True),
        ("score > ratio", True),
        ('lang == "en"', True),
        ("lang == 'de'", False),
        ('lang in ("de", "en")', True),
        ('lang not in ["de", "fr"]', True),
        ('lang < "f"', True),
        ("not flagged", True),
        ("flagged == false", True),
        ("flagged or score > 2 and lang == 'de'", False),
        ("(flagged or score > 2) and lang == 'en'", True),
        ("`my column` == 1", True),
        ("`a.b` == 2", True),
        ("a.b == 2", True),
        ("'a' in tags", True),
        ("'n' in lang", True),
        ("len(tags) == 2 and len(lang) == 2", True),
        ("contains(lang, 'e') and startswith(lang, 'e') and endswith(lang, 'n')", True),
        ("lower('EN') == lang", True),
        ("none_ is null", True),
        ("none_ == null", True),
        ("score is not None", True),
        ("none_ > 1", None),
        ("not none_", None),
        ("none_ > 1 or score == 3", True),
        ("none_ > 1 and score == 4", False),
        ("none_ > 1 and score == 3", None),
        ("score in (3, 4) and none_ in (1, 2)", None),
        ("contains(none_, 'a')", None),
        ("lang == '`score` and \\' or'", False),
    ],
)
def test_an_expression_means_what_it_says(text: str, expected: bool | None) -> None:
    assert holds(text, ROW) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score = 3", "Write `==` instead of `=`"),
        ("score > 1 && flagged", "Write `and` instead of `&&`"),
        ("(score > 1) & flagged", "Write `and` instead of `&`"),
        ("score > 1 | flagged", "Write `or` instead of `|`"),
        ("~flagged", "Write `not` instead of `~`"),
        ("!flagged", "Write `not` instead of `!`"),
        ("chosen-rating > 1", "A name with spaces or other characters goes into backticks"),
        ("my column > 1", "it cannot be read"),
        ("__import__('os').system('true')", "is not part of an expression"),
        ("score.__class__()", "is not part of an expression"),
        ("open('x')", "is not part of an expression"),
        ("[x for x in tags]", "is not part of an expression"),
        ("tags[0] == 'a'", "is not part of an expression"),
        ("(lambda: score)()", "is not part of an expression"),
        ("score + 1 > 2", "is not part of an expression"),
        ("f'{lang}' == 'en'", "is not part of an expression"),
        ("(x := 1)", "is not part of an expression"),
        ("len(lang, 1) > 1", "len takes 1 argument"),
        ("contains(lang) > 1", "contains takes 2 arguments"),
        ("none_ > null", "is null"),
        ("lang is 'en'", "`is` compares with null alone"),
        ("lang in ('en', null)", "null is compared with `is null`"),
        ("1 < 2", "it names no column"),
        ("", "it cannot be read"),
        ("not " * 200 + "flagged", "nested too deeply"),
        ("(" * 5000 + "flagged" + ")" * 5000, "it cannot be read"),
        ("flagged\0", "it cannot be read"),
    ],
)
def test_what_is_not_part_of_the_language_is_refused_with_the_way_to_write_it(text: str, message: str) -> None:
    assert message in refusal(text, ROW)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("score == 'a'", "score and 'a' cannot be compared: one is a number, the other a text"),
        ("lang >= 2", "one is a text, the other a number"),
        ("flagged == 0", "one is true or false, the other a number"),
        ("flagged < true", "cannot be compared by their order"),
        ("tags == 'a'", "one is a list, the other a text"),
        ("score and flagged", "score is a number, not true or false"),
        ("not lang", "lang is a text, not true or false"),
        ("score", "score is a number, not true or false"),
        ("len(score) > 1", "takes text, not a number"),
        ("1 in lang", "only a text can be in a text"),
        ("1 in score", "a number is not a list or a text"),
        ("lang in (1, 2)", "one is a text, the other a number"),
    ],
)
def test_a_value_of_another_type_is_an_error_and_never_false(text: str, message: str) -> None:
    assert message in refusal(text, ROW)


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("n >= 9", {"n": "10"}, True),
        ("n >= 9", {"n": " 8.5 "}, False),
        ("n == 10", {"n": "1e1"}, True),
        ("n in (1, 10)", {"n": "10"}, True),
        ("a > b", {"a": "10", "b": "9"}, True),
        ("a == b", {"a": "1.0", "b": "1"}, True),
        ("a == b", {"a": "1.0", "b": "x"}, False),
        ("n == '010'", {"n": "010"}, True),
        ("flag", {"flag": "True"}, True),
        ("not flag", {"flag": "false"}, True),
        ("flag == true", {"flag": "TRUE"}, True),
        ("n > 1", {"n": ""}, None),
        ("n is null", {"n": ""}, True),
        ("lang != 'en'", {"lang": ""}, None),
        ("len(lang) == 2", {"lang": "en"}, True),
    ],
)
def test_the_cells_of_a_csv_are_numbers_or_booleans_where_they_are_compared_with_one(
    text: str, row: dict[str, Any], expected: bool | None
) -> None:
    assert holds(text, row, cells=True) is expected


def test_a_cell_that_is_no_number_is_an_error_and_a_json_string_is_never_a_number() -> None:
    assert "one is a text, the other a number" in refusal("n > 1", {"n": "many"}, cells=True)
    assert "one is a number, the other a text" in refusal("a > b", {"a": "10", "b": "x"}, cells=True)
    assert "one is a text, the other a number" in refusal("n > 1", {"n": "10"})
    assert "flag is a text" in refusal("flag", {"flag": "yes"}, cells=True)


def test_a_number_that_is_not_one_is_null() -> None:
    assert holds("x > 1", {"x": float("nan")}) is None
    assert holds("x is null", {"x": float("nan")}) is True


def test_an_expression_names_its_columns_and_travels_between_processes() -> None:
    expression = parse_expression("a.b > 1 and (`c d` is null or len(`e.0.f`) == a.b)")
    assert expression.columns == ("a.b", "c d", "e.0.f")
    assert copy.copy(expression) is expression  # as pickle does


# Against an independent evaluation: the same condition, computed by pyarrow over columns with nulls.

NUMBERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([-0.5, 1.5]))
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "ab"]))
BOOLEANS = st.one_of(st.none(), st.booleans())
ROWS = st.lists(
    st.fixed_dictionaries({"n": NUMBERS, "m": NUMBERS, "t": TEXTS, "f": BOOLEANS, "g": BOOLEANS}),
    min_size=1,
    max_size=6,
)
#: A condition as text, and as a function of a table.
Condition = tuple[str, Callable[[pa.Table], Any]]
ORDER = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def compared(column: str, operator: str, value: Any) -> Condition:
    return f"{column} {operator} {value!r}", lambda table: ORDER[operator](table[column], pa.scalar(value))


def in_list(column: str, values: list[Any]) -> Condition:
    def evaluated(table: pa.Table) -> Any:
        found = pc.is_in(table[column], value_set=pa.array(values, table[column].type))
        return pc.if_else(pc.is_null(table[column]), pa.scalar(None, pa.bool_()), found)

    return f"{column} in {values!r}", evaluated


LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(compared, st.sampled_from("nm"), st.sampled_from(list(ORDER)), st.sampled_from([-1, 0, 1.5, 2])),
    st.builds(compared, st.just("t"), st.sampled_from(list(ORDER)), st.sampled_from(["", "a", "b"])),
    st.sampled_from(list(ORDER)).map(lambda op: (f"n {op} m", lambda table: ORDER[op](table["n"], table["m"]))),
    st.sampled_from("fg").map(lambda name: (name, lambda table: table[name])),
    st.sampled_from("nmtfg").map(lambda name: (f"{name} is null", lambda table: pc.is_null(table[name]))),
    st.sampled_from("nmtfg").map(lambda name: (f"{name} is not null", lambda table: pc.is_valid(table[name]))),
    st.builds(in_list, st.just("n"), st.lists(st.sampled_from([0.0, 1.0, 1.5]), min_size=1, max_size=3)),
    st.builds(in_list, st.just("t"), st.lists(st.sampled_from(["a", "ab"]), min_size=1, max_size=2)),
    st.sampled_from(["a", "b"]).map(
        lambda part: (f"contains(t, {part!r})", lambda table: pc.match_substring(table["t"], part))
    ),
    st.just(("len(t) > 1", lambda table: pc.greater(pc.utf8_length(table["t"]), 1))),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        inner.map(lambda c: (f"not ({c[0]})", lambda table: pc.invert(c[1](table)))),
        st.tuples(inner, inner).map(
            lambda cs: (f"({cs[0][0]}) and ({cs[1][0]})", lambda t: pc.and_kleene(cs[0][1](t), cs[1][1](t)))
        ),
        st.tuples(inner, inner).map(
            lambda cs: (f"({cs[0][0]}) or ({cs[1][0]})", lambda t: pc.or_kleene(cs[0][1](t), cs[1][1](t)))
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(rows=ROWS, condition=CONDITIONS)
def test_every_condition_gives_what_pyarrow_computes(rows: list[dict[str, Any]], condition: Condition) -> None:
    types = {"n": pa.float64(), "m": pa.float64(), "t": pa.string(), "f": pa.bool_(), "g": pa.bool_()}
    table = pa.table({name: pa.array([row[name] for row in rows], type_) for name, type_ in types.items()})
    text, evaluated = condition
    assert [holds(text, row) for row in rows] == evaluated(table).to_pylist()
