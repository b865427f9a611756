"""Rows in chunks: splits, limits, invalid rows, and files that are not of the source."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import kept_lines, pair, prompts, refusal

from dpo_data import convert
from dpo_data.errors import InputError, RowError
from dpo_data.prepared.reader import read_shard

GOLDEN = Path(__file__).parents[2] / "fixtures" / "sources"


def test_test_fraction_keeps_a_prompt_in_one_split_and_overrides_the_paths(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(n) for n in range(2000)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(n, chosen="other") for n in range(2000)])
    sides = {}
    for fraction in (0.1, 0.2):
        manifest = convert("pairs", [train, test], output=tmp_path / f"{fraction}", test_fraction=fraction, form="text")
        sides[fraction] = {split: set(found) for split, found in prompts(tmp_path / f"{fraction}").items()}
        assert "prompt_in_two_splits" not in manifest.warnings
        assert manifest.pairs == 4000
        assert sides[fraction]["train"].isdisjoint(sides[fraction]["test"])
        # Three standard deviations of 2,000 draws are 0.027 at a share of 0.2, and 0.02 at 0.1.
        assert len(sides[fraction]["test"]) / 2000 == pytest.approx(fraction, abs=0.027 if fraction == 0.2 else 0.02)
    assert sides[0.1]["test"] < sides[0.2]["test"]


def test_without_test_fraction_the_paths_decide_the_split(tmp_path, write_rows):
    train = write_rows(tmp_path / "in" / "train.jsonl", [pair(1)])
    test = write_rows(tmp_path / "in" / "test.jsonl", [pair(2)])
    convert("pairs", [test, train], output=tmp_path / "out", form="text")
    assert prompts(tmp_path / "out") == {"train": ["Question 1?"], "test": ["Question 2?"]}
    convert("pairs", [test, train], output=tmp_path / "one", split="test", form="text")
    assert prompts(tmp_path / "one") == {"test": ["Question 2?", "Question 1?"]}


@pytest.mark.parametrize("chunk_bytes", [10, 1 << 20])
@pytest.mark.parametrize(
    ("limit", "rows", "lines"),
    [
        (1, [1, 0], ["in/a.jsonl:1"]),
        (2, [2, 0], ["in/a.jsonl:1"]),
        (3, [3, 0], ["in/a.jsonl:1", "in/a.jsonl:4"]),
        (4, [3, 1], ["in/a.jsonl:1", "in/a.jsonl:4", "in/b.csv:2"]),
        (99, [3, 2], ["in/a.jsonl:1", "in/a.jsonl:4", "in/b.csv:2", "in/b.csv:3"]),
    ],
)
def test_the_limit_counts_the_rows_of_all_files(tmp_path, write_rows, monkeypatch, limit, rows, lines, chunk_bytes):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
    a = write_rows(tmp_path / "in" / "a.jsonl", [pair(1), "", "{broken", pair(2)])
    b = tmp_path / "in" / "b.csv"
    b.write_text("prompt,chosen,rejected\nq,a,b\nr,a,b\n")
    manifest = convert("pairs", [a, b], output=tmp_path / "out", limit=limit, max_invalid=1, form="text")
    assert [entry.rows for entry in manifest.inputs] == rows
    assert manifest.rows_read == sum(rows)
    assert kept_lines(tmp_path / "out") == lines


def test_on_error_stop_names_the_first_invalid_row_and_leaves_nothing(tmp_path, write_rows):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [pair(1), "", pair(2, rejected=None), "{"])
    assert refusal(RowError, raw, output=tmp_path / "out", on_error="stop") == (
        "in/a.jsonl:3: rejected is null. [missing_field]\n"
        "  Name the column that holds it with --map, or remove the row.\n"
        "  To quarantine such rows and continue: on_error=quarantine."
    )
    assert not (tmp_path / "out").exists()


def test_a_csv_without_a_column_is_refused_with_the_columns_it_has(tmp_path):
    raw = tmp_path / "a.csv"
    raw.write_text("question,good,bad\nq,a,b\n")
    mapping = {"prompt": "question", "chosen": "best", "rejected": "bad"}
    assert refusal(InputError, raw, output=tmp_path / "out", mapping=mapping) == (
        f'{tmp_path.name}/a.csv: has no column "best".\n  It has: question, good, bad.\n'
        "  Name the right columns: mapping=FIELD=COLUMN."
    )
    assert 'has no column "chosen"' in refusal(InputError, raw, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert("pairs", [raw], output=tmp_path / "out", mapping={**mapping, "chosen": "good"}, form="text")
    assert len(kept_lines(tmp_path / "out")) == 1


def test_a_parquet_file_without_a_column_is_refused_with_the_columns_it_has(tmp_path):
    pq.write_table(pa.table({"chosen": ["a"], "score": [1]}), tmp_path / "a.parquet")
    assert 'has no column "rejected".\n  It has: chosen, score.\n' in refusal(
        InputError, tmp_path / "a.parquet", output=tmp_path / "out"
    )


def test_a_mapped_column_may_be_nested(tmp_path):
    row = {"q": {"text": "Q"}, "a": [{"t": "yes"}, {"t": "no"}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    mapping = {"prompt": "q.text", "chosen": "a.0.t", "rejected": "a.1.t"}
    convert("pairs", [tmp_path / "a.parquet"], output=tmp_path / "out", mapping=mapping, split="train", form="text")
    assert prompts(tmp_path / "out") == {"train": ["Q"]}


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_an_empty_file_is_refused_and_leaves_nothing(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert refusal(InputError, tmp_path / name, output=tmp_path / "out") == f"{tmp_path.name}/{name}: no rows in it."
    assert not (tmp_path / "out").exists()


def test_a_file_with_only_a_header_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected\n")
    message = f"{tmp_path.name}/a.csv: no rows in it."
    assert refusal(InputError, tmp_path / "a.csv", output=tmp_path / "out") == message


def test_a_truncated_file_leaves_nothing(tmp_path, write_rows):
    content = gzip.compress(write_rows(tmp_path / "a.jsonl", [pair(n) for n in range(999)]).read_bytes())
    (tmp_path / "b.jsonl.gz").write_bytes(content[:-50])
    message = f"{tmp_path.name}/b.jsonl.gz: cannot be read: Truncated compressed stream."
    assert refusal(InputError, tmp_path / "b.jsonl.gz", output=tmp_path / "out") == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("blank_lines", [0, 500])
def test_the_first_row_of_every_file_must_be_of_the_source(tmp_path, monkeypatch, blank_lines):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 200)
    nectar, webgpt = (GOLDEN / source / "raw.jsonl" for source in ("nectar", "webgpt"))
    other = tmp_path / "other.jsonl"
    other.write_text("\n" * blank_lines + webgpt.read_text())
    message = refusal(InputError, nectar, other, output=tmp_path / "out", source="nectar")
    assert "other.jsonl: holds rows of webgpt, not of nectar." in message


@pytest.fixture
def parsed(monkeypatch) -> list[bytes]:
    """Lines in the order in which they are parsed."""
    lines: list[bytes] = []

    def count(line: bytes) -> Any:
        lines.append(line)
        return json.loads(line)

    monkeypatch.setattr("dpo_data.readers.jsonl.from_json", count)
    return lines


@pytest.mark.parametrize("source", ["helpsteer2", "oasst", "shp", "kto"])
@pytest.mark.parametrize("chunk_bytes", [300, 1 << 20])
def test_every_row_of_a_grouped_source_is_parsed_once(tmp_path, monkeypatch, parsed, source, chunk_bytes):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
    raw = GOLDEN / source / "raw.jsonl"
    manifest = convert(source, raw, output=tmp_path / "out", max_invalid=1)
    assert manifest.rows_read > 3
    assert parsed == [line for line in raw.read_bytes().split(b"\n") if line]


@pytest.mark.parametrize("limit", [1, 8, 50])
@pytest.mark.parametrize("chunk_bytes", [300, 1 << 20])
def test_rows_within_a_limit_are_parsed_once_and_others_never(
    tmp_path, write_rows, monkeypatch, parsed, limit, chunk_bytes
):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", chunk_bytes)
    raw = write_rows(tmp_path / "a.jsonl", [pair(n) for n in range(20)])
    manifest = convert("pairs", raw, output=tmp_path / "out", limit=limit, form="text")
    assert manifest.rows_read == min(limit, 20)
    assert parsed == raw.read_bytes().splitlines()[:limit]


def test_of_all_other_rows_only_the_first_of_each_file_is_parsed_twice(tmp_path, write_rows, parsed):
    files = [write_rows(tmp_path / name, [pair(n) for n in range(20)]) for name in ("a.jsonl", "b.jsonl")]
    convert("pairs", files, output=tmp_path / "out", form="text")
    assert len(parsed) == 20 + 1 + 20 + 1


@pytest.mark.parametrize("form", ["text", "conversational"])
def test_long_texts_of_one_chunk_are_written_in_several_batches(tmp_path, write_rows, monkeypatch, form):
    raw = write_rows(tmp_path / "in" / "a.jsonl", [pair(n) for n in range(5)])
    convert("pairs", raw, output=tmp_path / "one", form=form)
    monkeypatch.setattr("dpo_data.conversion.chunks.MAX_BATCH_BYTES", 1)
    convert("pairs", raw, output=tmp_path / "several", form=form)
    one, several = (
        list(read_shard(tmp_path / name / "train" / "data-00000-of-00001.arrow")) for name in ("one", "several")
    )
    assert ([batch.num_rows for batch in one], [batch.num_rows for batch in several]) == ([5], [1] * 5)
    assert pa.Table.from_batches(one).to_pylist() == pa.Table.from_batches(several).to_pylist()
