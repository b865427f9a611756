"""Rows that do not end, as in damaged files and decompression bombs, are refused before they fill the memory."""

import gzip
import json

import pytest

from dpo_data.errors import InputError
from dpo_data.readers.inputs import find_inputs

ROW = {"prompt": "p", "chosen": "c", "rejected": "x" * 200}


def read(path, max_row_bytes):
    [file] = find_inputs([path], max_row_bytes=max_row_bytes)
    return [row.value for chunk in file.chunks() for row in chunk.rows()]


FILES = {
    "rows.jsonl": json.dumps(ROW) + "\n",
    "rows.json": json.dumps([ROW]),
    "rows.csv": "prompt,chosen,rejected\np,c," + "x" * 200 + "\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_row_is_refused_from_one_byte_above_the_limit_on(tmp_path, name, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 16)
    path = tmp_path / name
    path.write_text(FILES[name])
    assert read(path, 1000) == [ROW]
    with pytest.raises(InputError, match=r"the row at line [12] has more than 100 bytes; .*max_row_bytes=1000"):
        read(path, 100)


@pytest.mark.parametrize("name", ["zeros.jsonl.gz", "zeros.csv.gz", "zeros.json.gz"])
def test_a_decompression_bomb_is_refused_after_the_limit(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'{"prompt": "' + b"0" * 6_000_000, 1))
    with pytest.raises(InputError, match=rf"{name}: cannot be read: the row at line 1 has more than 1,000,000 bytes"):
        read(path, 1_000_000)


def test_json_that_is_nested_too_deeply_is_refused(tmp_path):
    for name in ("deep.json", "deep.jsonl"):
        (tmp_path / name).write_text('{"prompt": ' * 100_000 + "\n")
    [refused] = read(tmp_path / "deep.jsonl", 10_000_000)
    assert refused.code == "unreadable_row"
    with pytest.raises(InputError, match=r"deep\.json: cannot be read"):
        read(tmp_path / "deep.json", 10_000_000)


def test_a_quote_that_is_never_closed_is_refused_before_the_whole_table_is_in_memory(tmp_path):
    (tmp_path / "a.csv").write_text('prompt,chosen\n"p,c\n' + "p,c\n" * 100)
    with pytest.raises(InputError, match="the row at line 2 has more than 50 bytes"):
        read(tmp_path / "a.csv", 50)
