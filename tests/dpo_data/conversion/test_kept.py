"""Metadata columns that are kept with the pairs: --keep NAME[=COLUMN][:text|number|bool]."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import hashes, pair

from dpo_data import convert, open_prepared, tokenize, validate
from dpo_data.conversion.kept import kept_values
from dpo_data.conversion.plan import make_plan
from dpo_data.errors import UsageError
from dpo_data.prepared.manifest import KeptColumn


def rows_of(folder: Path, *columns: str) -> list[Any]:
    rows = [row for batch in open_prepared(folder).batches("train") for row in batch.to_pylist()]
    return [row[columns[0]] for row in rows] if len(columns) == 1 else [tuple(row[c] for c in columns) for row in rows]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("text", "en", "en"),
        ("text", "", ""),
        ("text", 3, "3"),
        ("text", 1.5, "1.5"),
        ("text", True, "true"),
        ("text", ["a", {"b": "\u00e9"}], '["a", {"b": "\u00e9"}]'),
        ("number", 3, 3.0),
        ("number", " 1.5 ", 1.5),
        ("bool", True, True),
        ("bool", 0, False),
        ("bool", 1.0, True),
        ("bool", "Yes", True),
        ("bool", "false", False),
    ],
)
def test_values_are_kept_in_the_type_of_their_column(type_, value, expected):
    assert kept_values({"x": value}, {"k": KeptColumn(column="x", type=type_)}) == ({"k": expected}, [])


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        *[("number", value) for value in ("high", True, [1], float("nan"), 10**400)],
        *[("bool", value) for value in ("maybe", 2, [True], float("nan"))],
        ("text", "\ud800"),
    ],
)
def test_values_that_do_not_fit_become_null_and_are_named(type_, value):
    assert kept_values({"x": value}, {"k": KeptColumn(column="x", type=type_)}) == ({"k": None}, ["k"])


@pytest.mark.parametrize("row", [{"x": None}, {}, {"x": ""}, {"x": " "}])
def test_missing_values_are_null_and_fit(row):
    assert kept_values(row, {"k": KeptColumn(column="x", type="number")}) == ({"k": None}, [])


@pytest.mark.parametrize(
    ("word", "name", "column", "type_"),
    [
        ("lang", "lang", "lang", "text"),
        ("lang=meta.lang", "lang", "meta.lang", "text"),
        ("score:number", "score", "score", "number"),
        ("ok=meta.ok:bool", "ok", "meta.ok", "bool"),
        ("lang=a:b", "lang", "a:b", "text"),
        ("lang=a:b:text", "lang", "a:b", "text"),
        ("lang=a=b", "lang", "a=b", "text"),
    ],
)
def test_a_word_names_the_column_and_its_type(word, name, column, type_):
    assert make_plan("pairs", "a.jsonl", keep=[word]).job.kept == {name: KeptColumn(column=column, type=type_)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["=x"], "keep==x: must be NAME, NAME=COLUMN, or either with :text, :number or :bool."),
        (["x="], "keep=x=: must be NAME, NAME=COLUMN, or either with :text, :number or :bool."),
        (["prompt"], "keep=prompt: every prepared folder has its own prompt.\n  Name another: OTHER=prompt."),
        (["id=uuid"], "keep=id=uuid: every prepared folder has its own id.\n  Name another: OTHER=id."),
        (["margin:number"], "keep=margin:number: every prepared folder has its own margin."),
        (["a", "a=b"], "keep=a=b: a is given twice."),
    ],
)
def test_words_that_cannot_be_kept_are_refused(words, message):
    with pytest.raises(UsageError) as caught:
        make_plan("pairs", "a.jsonl", keep=words)
    assert str(caught.value).startswith(message)


def test_kept_columns_are_stored_counted_and_in_no_id(tmp_path, write_rows):
    rows = [pair(1, meta={"lang": "en"}, n="3", ok=True), pair(2, meta={"lang": None}, n="many", ok=None), pair(3)]
    raw = write_rows(tmp_path / "a.jsonl", rows)
    keep = ["lang=meta.lang", "n:number", "ok:bool"]
    manifest = convert("pairs", raw, output=tmp_path / "out", keep=keep)
    assert rows_of(tmp_path / "out", "lang", "n", "ok") == [("en", 3.0, True), (None, None, None), (None, None, None)]
    assert {name: (k.column, k.type, k.misfits) for name, k in manifest.kept_columns.items()} == {
        "lang": ("meta.lang", "text", 0),
        "n": ("n", "number", 1),
        "ok": ("ok", "bool", 0),
    }
    assert list(manifest.columns.items())[-3:] == [("lang", "string"), ("n", "float64"), ("ok", "bool")]
    assert manifest.unused_columns == {}
    convert("pairs", raw, output=tmp_path / "without")
    assert rows_of(tmp_path / "out", "id") == rows_of(tmp_path / "without", "id")


def test_kept_columns_reach_the_token_cache_and_pass_validation(tmp_path, write_rows, byte_tokenizer):
    raw = write_rows(tmp_path / "a.jsonl", [pair(n, lang=f"l{n}", n=n) for n in range(3)])
    convert("pairs", raw, output=tmp_path / "out", keep=["lang", "n:number"])
    assert (validate(tmp_path / "out").damage, validate(tmp_path / "out").findings) == ({}, {})
    cache = tokenize(tmp_path / "out", tokenizer=byte_tokenizer)
    train = cache.dataset()["train"]
    assert (train["lang"][:], train["n"][:]) == (["l0", "l1", "l2"], [0.0, 1.0, 2.0])


def test_a_named_source_keeps_the_column_of_the_row_that_chosen_comes_from(tmp_path, write_rows):
    rows = [
        {"prompt": "Hi?", "completion": text, "label": text == "Yes", "by": f"who says {text}"}
        for text in ("No", "Yes")
    ]
    convert("kto", write_rows(tmp_path / "a.jsonl", rows), output=tmp_path / "out", keep=["by"])
    assert rows_of(tmp_path / "out", "by") == ["who says Yes"]


def test_the_id_of_a_row_is_kept(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(1, uuid="u1"), pair(2, uuid=7)])
    manifest = convert("pairs", raw, output=tmp_path / "out", mapping={"id": "uuid"})
    assert rows_of(tmp_path / "out", "row_id") == ["u1", "7"]
    assert manifest.unused_columns == {}


def test_a_column_that_no_first_row_has_is_refused(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(1, lang="en")])
    with pytest.raises(UsageError) as caught:
        convert("pairs", raw, output=tmp_path / "out", keep=["language=lnag"])
    assert str(caught.value) == (
        "keep=language: none of the first rows has the column lnag.\n  They have: prompt, chosen, rejected, lang."
        "\n  Did you mean lang?"
    )
    assert not (tmp_path / "out").exists()


def test_personal_data_in_kept_columns_is_redacted_too(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(1, by="jo@example.org")])
    convert("pairs", raw, output=tmp_path / "out", keep=["by"], redact=True)
    assert rows_of(tmp_path / "out", "by") == ["[EMAIL]"]


def test_parquet_and_json_lines_keep_the_same(tmp_path, write_rows):
    rows = [pair(n, tags=["a", str(n)], n=n, ok=n % 2 == 0) for n in range(5)]
    write_rows(tmp_path / "one" / "a.jsonl", rows)
    (tmp_path / "two").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "two" / "a.parquet")
    keep = ["tags", "n:number", "ok:bool"]
    for name in ("one", "two"):
        convert("pairs", tmp_path / name, output=tmp_path / f"out-{name}", keep=keep)
    columns = ("tags", "n", "ok", "id")
    assert rows_of(tmp_path / "out-one", *columns) == rows_of(tmp_path / "out-two", *columns)


def test_any_number_of_workers_keeps_the_same(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 2000)
    raw = write_rows(tmp_path / "a.jsonl", [pair(n, n=n if n % 3 else "x") for n in range(2000)])
    for workers in (1, 2):
        convert("pairs", raw, output=tmp_path / str(workers), keep=["n:number"], workers=workers)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
