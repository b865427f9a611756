"""Inputs: files, folders, globs, URLs and standard input, with their labels, splits and formats."""

import gzip
import io
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest
from raw_files import LINES, TABLE, TABLE_ROWS, read_rows, refusal, seen, write_table, written

from dpo_data.errors import InputError, UsageError
from dpo_data.readers.inputs import find_inputs


def test_an_empty_file_has_no_rows(tmp_path):
    for suffix in ("jsonl", "json", "csv", "tsv"):
        assert seen(written(tmp_path / f"a.{suffix}", "")) == []


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data.jsonl", "train"),
        ("test.jsonl", "test"),
        ("train.jsonl", "train"),
        ("test/data.jsonl", "test"),
        ("test/train.jsonl", "train"),  # the file's own name wins
        ("train/test.jsonl", "test"),
        ("test/some/data.jsonl", "train"),  # only the last folder counts
        ("harmless-base-test-part1.jsonl", "test"),
        ("TEST.jsonl", "test"),
        ("validation-00000-of-00001.jsonl", "test"),
        ("dev_set.jsonl", "test"),
        ("my.eval.jsonl", "test"),
        ("training.jsonl", "train"),
        ("latest.jsonl", "train"),
        ("contest/testimony.jsonl", "train"),
        ("test_runs/pairs.jsonl", "train"),  # only a folder's whole name counts
        ("Validation/pairs.jsonl", "test"),
        ("constrained.jsonl", "train"),
    ],
)
def test_the_split_is_inferred_from_the_path(tmp_path, path, split):
    (file,) = find_inputs([str(written(tmp_path / "base" / path, ""))])
    assert file.split == split


def test_a_given_split_overrides_the_paths(tmp_path):
    (file,) = find_inputs([str(written(tmp_path / "test.jsonl", ""))], split="train")
    assert file.split == "train"


@pytest.mark.parametrize("relative", ["a.jsonl", "*.jsonl", ".", "../test", "../test/*.jsonl", "../test/a.jsonl"])
def test_labels_and_splits_do_not_depend_on_the_working_directory(tmp_path, monkeypatch, relative):
    folder = written(tmp_path / "test" / "a.jsonl", '{"a": 1}').parent
    monkeypatch.chdir(folder)
    (file,) = find_inputs([relative])
    assert (file.label, file.split) == ("test/a.jsonl", "test")
    monkeypatch.chdir("/")
    (file,) = find_inputs([str(folder / relative)])
    assert (file.label, file.split) == ("test/a.jsonl", "test")


def test_labels_of_several_inputs_start_at_the_folder_that_contains_them_all(tmp_path):
    inputs = [str(written(tmp_path / name, "")) for name in ("x/a/1.jsonl", "x/b/c/1.jsonl", "x/b/2.csv")]
    assert [file.label for file in find_inputs(inputs)] == ["x/a/1.jsonl", "x/b/c/1.jsonl", "x/b/2.csv"]


def test_a_folder_is_searched_recursively_in_sorted_order(tmp_path):
    for name in ("b.jsonl", "a/z.JSON", "a/test/y.csv.GZ", "notes.txt", "x.jsonl.bak", ".hidden.jsonl", ".git/x.json"):
        written(tmp_path / "in" / name, "")
    files = find_inputs([str(tmp_path / "in")])
    assert [(file.label.split("in/")[1], file.split, file.format.name, file.compression) for file in files] == [
        ("a/test/y.csv.GZ", "test", "csv", "gzip"),
        ("a/z.JSON", "train", "json", None),
        ("b.jsonl", "train", "jsonl", None),
    ]


def test_a_glob_gives_its_matches_in_sorted_order(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c.csv", "sub/d.jsonl"):
        written(tmp_path / name, "")
    assert [Path(file.location).name for file in find_inputs([str(tmp_path / "*.jsonl")])] == ["a.jsonl", "b.jsonl"]
    found = find_inputs([str(tmp_path / "**" / "*.jsonl")])
    assert [Path(file.location).name for file in found] == ["a.jsonl", "b.jsonl", "d.jsonl"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    path = written(tmp_path / "a[1].jsonl", '{"a": 1}')
    assert seen(path) == [(1, {"a": 1})]


def test_missing_inputs_are_refused_by_name(tmp_path):
    missing, empty = tmp_path / "none.jsonl", tmp_path / "empty"
    written(empty / "notes.txt", "")
    with pytest.raises(InputError) as caught:
        find_inputs([str(missing)])
    assert str(caught.value) == f"{missing}: there is no such file."
    with pytest.raises(InputError) as caught:
        find_inputs([str(tmp_path / "*.csv")])
    assert str(caught.value) == f"{tmp_path / '*.csv'}: no file matches."
    with pytest.raises(InputError) as caught:
        find_inputs([str(empty)])
    assert str(caught.value) == (
        f"{empty}: no file of a known format in this folder.\n"
        "  Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .feather; "
        "text formats also with .gz, .zst, .bz2, .xz, and in archives (.zip, .tar) that are inputs."
    )


def test_a_name_without_a_known_format_needs_the_format(tmp_path):
    path = written(tmp_path / "rows.txt", '{"a": 1}\n')
    assert refusal(path) == (
        f"{path}: cannot infer the format from the file name.\n"
        "  Known: .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, .feather; text formats also with .gz, .zst, "
        ".bz2, .xz, and in archives (.zip, .tar) that are inputs; or name it: "
        "input_format=jsonl|json|csv|tsv|parquet|arrow."
    )
    assert seen(path, input_format="jsonl") == [(1, {"a": 1})]
    assert seen(written(tmp_path / "rows", b"q\n1\n"), input_format="csv") == [(2, {"q": "1"})]


def test_an_unknown_format_is_refused_with_the_choices(tmp_path):
    with pytest.raises(UsageError) as caught:
        find_inputs([written(tmp_path / "a.jsonl", "")], input_format="xml")
    assert str(caught.value) == "input_format=xml: choose from jsonl, json, csv, tsv, parquet, arrow."


@pytest.mark.parametrize("name", ["utf-99", "hex", "", "a\0"])
def test_an_unknown_encoding_is_refused_with_usual_ones(tmp_path, name):
    with pytest.raises(UsageError) as caught:
        find_inputs([written(tmp_path / "a.jsonl", "")], encoding=name)
    shown = name.replace("\0", "\\x00")
    assert str(caught.value) == (
        f"encoding={shown}: there is no such encoding.\n  Usual ones: cp1252, latin-1, utf-16, gb18030, shift_jis."
    )


def test_a_file_that_is_named_twice_is_refused(tmp_path, monkeypatch):
    written(tmp_path / "a.jsonl", "")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_inputs(["a.jsonl", str(tmp_path / "*.jsonl")])
    assert str(caught.value) == f"an input is named twice: {tmp_path.name}/a.jsonl."


def test_urls_of_fsspec_are_read_and_matched_by_globs():
    memory = fsspec.filesystem("memory")
    memory.pipe({"/rows/train.jsonl": b'{"a": 1}\n', "/rows/test.jsonl.gz": gzip.compress(b'{"a": 2}\n{"a": 3}\n')})
    memory.pipe("/rows/table.parquet", _parquet_bytes())
    assert seen("memory://rows/test.jsonl.gz") == [(1, {"a": 2}), (2, {"a": 3})]
    assert seen("memory://rows/table.parquet") == TABLE_ROWS
    files = find_inputs(["memory://rows/*.jsonl*"])
    assert [(file.label, file.split) for file in files] == [
        ("memory:///rows/test.jsonl.gz", "test"),
        ("memory:///rows/train.jsonl", "train"),
    ]
    assert [row.value for file in files for chunk in file.chunks() for row in chunk.rows()] == [
        {"a": 2},
        {"a": 3},
        {"a": 1},
    ]


def test_a_url_that_cannot_be_reached_is_refused_with_a_hint():
    assert refusal("memory://rows/none.jsonl") == (
        "memory://rows/none.jsonl: cannot be reached: /rows/none.jsonl.\n"
        "  Check the address and the network connection, or read a local copy."
    )
    assert refusal("memory://rows/*.csv") == "memory://rows/*.csv: no file matches."
    assert refusal("nonsense://a.jsonl").startswith("nonsense://a.jsonl: cannot be reached: Protocol not known")


class HTTPError(Exception):
    """An exception of httpx, as far as its name shows."""


HTTPError.__module__ = "httpx._exceptions"


@pytest.fixture
def failing_filesystem():
    """A function that makes the URLs "failing://..." raise an exception when they are opened."""
    raised: list[Exception] = []

    class FailingFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
        protocol = "failing"
        cachable = False

        def _open(self, path, **options):
            raise raised[0]

    fsspec.register_implementation("failing", FailingFileSystem, clobber=True)
    return raised.append


def test_an_exception_of_a_network_library_is_an_input_error(failing_filesystem):
    failing_filesystem(HTTPError("502 Bad Gateway\nFor more information, ..."))
    assert refusal("failing://a.jsonl") == (
        "failing://a.jsonl: cannot be reached: 502 Bad Gateway.\n"
        "  Check the address and the network connection, or read a local copy."
    )


def test_another_exception_is_not_hidden(failing_filesystem):
    failing_filesystem(AttributeError("a bug"))
    with pytest.raises(AttributeError, match="a bug"):
        read_rows("failing://a.jsonl")


def test_the_hint_for_unreachable_files_is_that_of_the_caller():
    (file,) = find_inputs(["memory://rows/none.jsonl"], unreachable_hint="Try the sample.")
    with pytest.raises(InputError, match=r"cannot be reached: .*\n  Try the sample\.$"):
        list(file.chunks())


def _parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


@pytest.fixture
def piped(monkeypatch):
    """A function that makes bytes the standard input, through a real pipe, which has no random access."""
    threads = []

    def pipe(content: bytes) -> None:
        read_end, write_end = os.pipe()

        def feed() -> None:
            with suppress(BrokenPipeError), os.fdopen(write_end, "wb") as sink:
                sink.write(content)

        threads.append(threading.Thread(target=feed))
        threads[-1].start()
        stdin = open(read_end, encoding="utf-8")  # noqa: SIM115
        opened.append(stdin)
        monkeypatch.setattr(sys, "stdin", stdin)

    opened: list[Any] = []
    yield pipe
    for stdin in opened:
        stdin.close()
    for thread in threads:
        thread.join()


def test_standard_input_is_json_lines_unless_a_format_is_given(piped):
    piped(LINES)
    (file,) = find_inputs(["-"])
    assert (file.label, file.split, file.size_bytes()) == ("stdin", "train", None)
    assert seen("-") == [(n + 1, {"n": n}) for n in range(3000)]
    piped(b"q,good\n1,2\n")
    assert seen("-", input_format="csv", split="test") == [(2, {"q": "1", "good": "2"})]
    piped(b'[{"a": 1}]')
    assert seen("-", input_format="json") == [(1, {"a": 1})]


@pytest.mark.parametrize("layout", ["parquet", "file", "stream"])
def test_tables_from_a_pipe_are_refused_since_they_need_random_access(piped, tmp_path, layout):
    piped(write_table(tmp_path / "a.parquet", TABLE, layout).read_bytes())
    input_format = "parquet" if layout == "parquet" else "arrow"
    assert refusal("-", input_format=input_format) == (
        f"stdin: cannot be read: {input_format} files cannot be read from a pipe; save it to a file first."
    )
