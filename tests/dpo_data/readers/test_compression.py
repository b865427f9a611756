"""Compressed text files."""

import bz2
import gzip

import pytest
import zstandard
from raw_files import LINES, refusal, seen, written

COMPRESS = {".gz": gzip.compress, ".zst": zstandard.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_text_reads_like_plain_text(tmp_path, suffix):
    path = written(tmp_path / f"a.jsonl{suffix}", COMPRESS[suffix](LINES))
    assert seen(path) == [(n + 1, {"n": n}) for n in range(3000)]
    path = written(tmp_path / f"a.csv{suffix}", COMPRESS[suffix](b"q\n1\n2\n"))
    assert seen(path) == [(2, {"q": "1"}), (3, {"q": "2"})]
    path = written(tmp_path / f"a.json{suffix}", COMPRESS[suffix](b'[{"q": 1}]'))
    assert seen(path) == [(1, {"q": 1})]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [0.5, 0.999], ids=["half", "all but the trailer"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_truncated_compressed_file_is_refused(tmp_path, suffix, cut, kind):
    content = COMPRESS[suffix](LINES)
    path = written(tmp_path / f"a.{kind}{suffix}", content[: int(len(content) * cut)])
    assert refusal(path) == f"{tmp_path.name}/a.{kind}{suffix}: cannot be read: Truncated compressed stream."


def test_a_gzip_file_with_a_flipped_byte_is_refused(tmp_path):
    content = bytearray(gzip.compress(LINES))
    content[len(content) // 2] ^= 0xFF
    assert refusal(written(tmp_path / "a.jsonl.gz", bytes(content))).startswith(
        f"{tmp_path.name}/a.jsonl.gz: cannot be read: zlib inflate failed"
    )


def test_plain_text_with_the_name_of_a_gzip_file_is_refused(tmp_path):
    path = written(tmp_path / "a.jsonl.gz", LINES)
    assert refusal(path) == (
        f"{tmp_path.name}/a.jsonl.gz: cannot be read: zlib inflate failed: incorrect header check."
    )


def test_concatenated_gzip_members_are_one_file(tmp_path):
    content = gzip.compress(b'{"n": 1}\n{"n"') + gzip.compress(b": 2}\n") + gzip.compress(b'{"n": 3}\n')
    assert seen(written(tmp_path / "a.jsonl.gz", content)) == [(1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.arrow.zst"])
def test_tables_that_are_compressed_as_a_whole_are_refused(tmp_path, name):
    path = written(tmp_path / name, b"")
    format_ = name.split(".")[1]
    assert refusal(path) == f"{path}: a {format_} file cannot be compressed as a whole.\n  Decompress it first."
