"""`where`: rows that do not meet a condition on their raw columns are left out and counted; mistakes are refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden import raw_rows

from dpo_data import convert, open_prepared
from dpo_data.errors import UsageError
from dpo_data.inspect.validation import validate
from dpo_data.prepared.manifest import Manifest


def write(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def converted(source: str, raw: Path, folder: Path, where: str, **options: Any) -> tuple[Manifest, list[str]]:
    """Return the manifest, and the chosen responses in order."""
    manifest = convert(source, [raw], output=folder, where=where, form="conversational", **options)
    assert manifest.rows_read == manifest.rows_paired + manifest.quarantined + manifest.left_out
    assert manifest.options.where == where
    rows = (
        [row for batch in open_prepared(folder).batches("train") for row in batch.to_pylist()] if manifest.pairs else []
    )
    return manifest, [row["chosen"][-1]["content"] for row in rows]


def pair(chosen: str, **columns: Any) -> dict[str, Any]:
    return {"prompt": f"A question for {chosen}?", "chosen": chosen, "rejected": f"not {chosen}"} | columns


def test_rows_that_do_not_meet_the_condition_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [pair("a", score=3), pair("b", score=1), pair("c", score=None), pair("d"), pair("e", score=2)]
    manifest, chosen = converted("pairs", write(tmp_path / "in" / "r.jsonl", rows), tmp_path / "out", "score >= 2")
    assert chosen == ["a", "e"]
    assert (manifest.rows_read, manifest.pairs, manifest.left_out) == (5, 2, 3)
    assert manifest.left_out_by_reason == {"filtered": 1, "filtered_null": 2}
    assert manifest.unused_columns == {}
    assert "`` score >= 2 ``" in (tmp_path / "out" / "README.md").read_text()
    assert validate(tmp_path / "out").worst() is None


def test_a_row_that_cannot_be_read_is_quarantined_and_one_that_is_filtered_is_not(tmp_path: Path) -> None:
    raw = write(tmp_path / "in" / "r.jsonl", [pair("a", keep=True), pair("b", keep=False) | {"chosen": None}])
    raw.write_text(raw.read_text() + "{\n")
    manifest, chosen = converted("pairs", raw, tmp_path / "out", "keep", max_invalid=1)
    assert chosen == ["a"]
    assert (manifest.quarantined_by_code, manifest.left_out_by_reason) == ({"unreadable_row": 1}, {"filtered": 1})


def test_the_usual_recipe_for_shp(tmp_path: Path) -> None:
    rows = [row | {"score_ratio": ratio} for row, ratio in zip(raw_rows("shp")[:2], (3.0, 1.5), strict=True)]
    manifest, chosen = converted("shp", write(tmp_path / "in" / "r.json", rows), tmp_path / "out", "score_ratio >= 2")
    assert (len(chosen), manifest.left_out_by_reason) == (1, {"filtered": 1})


def test_the_usual_recipe_for_argillas_orca_pairs(tmp_path: Path) -> None:
    judged = {"status": "unchanged", "chosen_score": 9.0, "in_gsm8k_train": False, "system": ""}
    rows = [
        pair("a") | judged,
        pair("b") | judged | {"status": "tie"},
        pair("c") | judged | {"chosen_score": 7.0},
        pair("d") | judged | {"in_gsm8k_train": True},
        pair("e") | judged | {"chosen_score": None},
    ]
    for row in rows:
        row["input"] = row.pop("prompt")
    where = 'status != "tie" and chosen_score >= 8 and not in_gsm8k_train'
    manifest, chosen = converted("orca-dpo-pairs", write(tmp_path / "in" / "r.jsonl", rows), tmp_path / "out", where)
    assert chosen == ["a"]
    assert manifest.left_out_by_reason == {"filtered": 3, "filtered_null": 1}


def oasst(tree: str, lang: str) -> list[dict[str, Any]]:
    common = {"message_tree_id": tree, "lang": lang}
    replies = [
        {"message_id": f"{tree}{rank}", "parent_id": tree, "text": f"{tree}{rank}", "role": "assistant", "rank": rank}
        for rank in range(3)
    ]
    return [{"message_id": tree, "text": "Q?", "role": "prompter"} | common, *(reply | common for reply in replies)]


def test_the_usual_recipe_for_oasst(tmp_path: Path) -> None:
    raw = write(tmp_path / "in" / "r.jsonl", [*oasst("x", "en"), *oasst("y", "de")])
    manifest, chosen = converted("oasst", raw, tmp_path / "out", 'lang == "en"')
    assert chosen == ["x0"]
    assert manifest.left_out_by_reason == {"filtered": 4, "not_paired": 1, "prompt": 1}


def test_a_row_that_is_filtered_is_in_no_pair_but_still_the_parent_of_others(tmp_path: Path) -> None:
    raw = write(tmp_path / "in" / "r.jsonl", oasst("x", "en"))
    # The question has no rank, so that a null decides; its replies are answers to it all the same.
    manifest, chosen = converted("oasst", raw, tmp_path / "out", "rank > 0")
    assert chosen == ["x1"]
    assert (manifest.quarantined, manifest.left_out_by_reason) == (0, {"filtered": 1, "filtered_null": 1})


def test_the_cells_of_a_csv_are_compared_with_numbers(tmp_path: Path) -> None:
    raw = tmp_path / "in" / "r.csv"
    raw.parent.mkdir()
    raw.write_text("prompt,chosen,rejected,score,seen\nq1,a,x,10,True\nq2,b,x,9,true\nq3,c,x,,false\nq4,d,x,11,\n")
    manifest, chosen = converted("pairs", raw, tmp_path / "out", "score >= 9.5 and seen")
    assert chosen == ["a"]
    assert manifest.left_out_by_reason == {"filtered": 2, "filtered_null": 1}


def test_nested_columns_and_names_in_backticks(tmp_path: Path) -> None:
    rows = [pair("a", meta={"lang": "en"}, **{"my score": 2}), pair("b", meta={"lang": None}, **{"my score": 2})]
    table = pa.Table.from_pylist(rows)
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "r.parquet")
    where = 'meta.lang == "en" and `my score` > 1'
    manifest, chosen = converted("pairs", tmp_path / "in" / "r.parquet", tmp_path / "out", where)
    assert (chosen, manifest.left_out_by_reason) == (["a"], {"filtered_null": 1})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("scor >= 2", 'where=scor >= 2: in/r.jsonl has no column "scor".\n  It has: prompt, chosen, rejected, score.'),
        ("scor >= 2", "Did you mean score?"),
        ("score.x >= 2", 'in/r.jsonl has no column "score.x"'),
        ("score >= 'high'", "score and 'high' cannot be compared by their order: one is a number, the other a text."),
        ("score >= 'high'", "in/r.jsonl:1 has: prompt (a text), chosen (a text), rejected (a text), score (a number)"),
        ("score >=", "where=score >=: it cannot be read"),
    ],
)
def test_a_column_or_a_type_that_is_wrong_is_a_usage_error_that_lists_the_columns(
    where: str, message: str, workers: int, tmp_path: Path
) -> None:
    raw = write(tmp_path / "in" / "r.jsonl", [pair("a", score=3), pair("b", score=1)])
    with pytest.raises(UsageError) as caught:
        convert("pairs", [raw], output=tmp_path / "out", where=where, workers=workers)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_wrong_type_far_into_the_file_names_its_line(tmp_path: Path) -> None:
    rows = [pair(f"a{n}", score=n if n < 2999 else "many") for n in range(3000)]
    raw = write(tmp_path / "in" / "r.jsonl", rows)
    for workers in (1, 2):
        with pytest.raises(UsageError, match=r"in/r\.jsonl:3000 has: prompt"):
            convert("pairs", [raw], output=tmp_path / "out", where="score >= 2", workers=workers)


def test_the_same_bytes_with_a_condition_for_any_number_of_workers(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 500)
    raw = write(tmp_path / "in" / "r.jsonl", [pair(f"a{n}", score=n % 3) for n in range(60)])
    one, two = (converted("pairs", raw, tmp_path / str(n), "score > 0", workers=n)[0] for n in (1, 2))
    assert one == two
    assert (one.pairs, one.left_out_by_reason) == (40, {"filtered": 20})
