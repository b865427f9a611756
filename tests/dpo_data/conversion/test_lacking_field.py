"""A conversion stops at once where all of the first rows lack the same field."""

import pytest
from conversions import pair, refusal

from dpo_data import convert
from dpo_data.errors import InputError


def lacking(number: int) -> dict[str, str]:
    return {"prompt": f"Question {number}?", "chosen": " yes", "worse": " no"}


def test_nothing_is_written_where_all_first_rows_lack_the_same_field(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [lacking(n) for n in range(20)])
    assert refusal(InputError, raw, output=tmp_path / "out") == (
        "in/a.jsonl:1: rejected is missing; the row has prompt, chosen, worse. All of the first 20 rows lack it.\n"
        "  Name the column that holds it with --map, or remove the row."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "rows",
    [
        [lacking(n) for n in range(19)],
        [*(lacking(n) for n in range(40)), pair(1)],
        [pair(1), *(lacking(n) for n in range(40))],
        [*(lacking(n) for n in range(20)), *({"prompt": "Hi", "rejected": "no"} for _ in range(20))],
        [*(lacking(n) for n in range(20)), "{broken"],
    ],
    ids=["few", "a good row last", "a good row first", "two fields", "another fault"],
)
def test_other_rows_are_quarantined(tmp_path, write_rows, rows):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", rows), output=tmp_path / "out")
    assert (manifest.status, manifest.rows_read) == ("rejected", len(rows))


@pytest.mark.parametrize("chunk_bytes", [1000, 1 << 20])
def test_the_first_thousand_rows_are_enough(tmp_path, write_rows, monkeypatch, chunk_bytes):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
    bad, good = [lacking(n) for n in range(1000)], [pair(n) for n in range(50_000)]
    message = refusal(InputError, write_rows(tmp_path / "a.jsonl", [*bad, *good]), output=tmp_path / "out")
    assert message.startswith(f"{tmp_path.name}/a.jsonl:1: rejected is missing")
    manifest = convert("pairs", write_rows(tmp_path / "b.jsonl", [*bad[:999], *good]), output=tmp_path / "out")
    assert manifest.quarantined == 999
