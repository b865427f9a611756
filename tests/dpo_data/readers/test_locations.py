"""Where inputs are: links, linked folders, globs, the home folder and pipes."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from raw_files import LINES, refusal, seen, written

from dpo_data import convert
from dpo_data.errors import InputError
from dpo_data.prepared.reader import open_prepared
from dpo_data.readers.inputs import find_inputs


def pairs(*words: str) -> str:
    return "".join(f'{{"prompt": "{word}?", "chosen": "yes", "rejected": "no"}}\n' for word in words)


def linked(link: Path, target: str) -> Path:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """A snapshot in a cache of the Hub, where every file is a link to one with a meaningless name."""
    repository = tmp_path / "datasets--me--set"
    written(repository / "blobs" / "aaaa1111", pairs("train 1", "train 2"))
    written(repository / "blobs" / "bbbb2222", pairs("test 1"))
    snapshot = repository / "snapshots" / "abc"
    linked(snapshot / "data" / "train.jsonl", "../../../blobs/aaaa1111")
    linked(snapshot / "data" / "test.jsonl", "../../../blobs/bbbb2222")
    return snapshot


@pytest.mark.parametrize("name", [".", "data", "data/*.jsonl", "data/t*"])
def test_files_of_a_hub_cache_have_the_names_and_splits_of_their_links(hub_cache, name):
    files = find_inputs([hub_cache / name])
    above = "abc/" if name == "." else ""
    assert [(file.label.removeprefix(above), file.split) for file in files] == [
        ("data/test.jsonl", "test"),
        ("data/train.jsonl", "train"),
    ]


def test_a_conversion_of_a_hub_cache_keeps_its_splits_and_origins(hub_cache, tmp_path):
    files = [hub_cache / "data" / "train.jsonl", hub_cache / "data" / "test.jsonl"]
    convert("pairs", files, output=tmp_path / "out", form="text")
    prepared = open_prepared(tmp_path / "out")
    origins = {
        split: [origin for batch in prepared.batches(split) for origin in batch.column("origin").to_pylist()]
        for split in prepared.split_names
    }
    assert origins == {"train": ["data/train.jsonl:1", "data/train.jsonl:2"], "test": ["data/test.jsonl:1"]}


def test_linked_folders_are_walked_under_the_names_of_their_links(tmp_path):
    written(tmp_path / "real" / "train.jsonl", pairs("a"))
    written(tmp_path / "in" / "x.jsonl", pairs("b"))
    linked(tmp_path / "in" / "test", "../real")
    files = find_inputs([tmp_path / "in"])
    assert [(file.label, file.split) for file in files] == [("in/test/train.jsonl", "train"), ("in/x.jsonl", "train")]
    assert [file.label for file in find_inputs([tmp_path / "in" / "test"])] == ["test/train.jsonl"]


def test_a_folder_that_several_links_lead_to_is_walked_once(tmp_path):
    written(tmp_path / "real" / "sub" / "a.jsonl", "")
    for name, target in {"2": "../real", "1": "../real", "3": "../real/sub"}.items():
        linked(tmp_path / "in" / name, target)
    written(tmp_path / "in" / "z.jsonl", "")
    assert [file.label for file in find_inputs([tmp_path / "in"])] == ["in/1/sub/a.jsonl", "in/z.jsonl"]


def test_a_folder_that_is_linked_from_itself_is_walked_under_its_own_name(tmp_path):
    written(tmp_path / "in" / "v2" / "a.jsonl", "")
    linked(tmp_path / "in" / "latest", "v2")
    linked(tmp_path / "in" / "v2" / "back", "..")
    linked(tmp_path / "in" / "v2" / "further", "../..")
    written(tmp_path / "in" / "z.jsonl", "")
    assert [file.label for file in find_inputs([tmp_path / "in"])] == ["in/v2/a.jsonl", "in/z.jsonl"]


def test_a_broken_link_in_a_folder_is_refused_by_name(tmp_path):
    written(tmp_path / "in" / "a.jsonl", pairs("a"))
    linked(tmp_path / "in" / "b.jsonl", "nowhere")
    with pytest.raises(InputError, match=r"^in/b\.jsonl: there is no such file\.$"):
        convert("pairs", tmp_path / "in", output=tmp_path / "out", form="text")


def test_files_are_sorted_folder_by_folder(tmp_path):
    for name in ("a/z.jsonl", "a-b.jsonl", "a.jsonl", "B.jsonl"):
        written(tmp_path / name, "")
    assert [file.label.partition("/")[2] for file in find_inputs([tmp_path])] == [
        "B.jsonl",
        "a/z.jsonl",
        "a-b.jsonl",
        "a.jsonl",
    ]


@pytest.mark.parametrize("folder", ["[v1]", "a[b", "set [1-3] (copy)", "what?"])
def test_a_glob_below_a_folder_whose_name_looks_like_one(tmp_path, monkeypatch, folder):
    for name in ("b.jsonl", "sub/c.jsonl", "d.csv"):
        written(tmp_path / folder / name, '{"a": 1}\n')
    names = [Path(file.location).name for file in find_inputs([tmp_path / folder / "*.jsonl"])]
    assert names == ["b.jsonl"]
    monkeypatch.chdir(tmp_path)
    names = [Path(file.location).name for file in find_inputs([f"{folder}/**/*.jsonl"])]
    assert names == ["b.jsonl", "c.jsonl"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "data" / "a.jsonl", '{"a": 1}')
    for name in ("~/data", "~/data/a.jsonl", "~/data/*.jsonl"):
        assert [file.label for file in find_inputs([name])] == ["data/a.jsonl"]
        assert seen(name) == [(1, {"a": 1})]


def test_a_file_whose_name_starts_with_a_tilde_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "~a.jsonl", '{"a": 1}')
    assert seen("~a.jsonl") == [(1, {"a": 1})]


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("pipe.jsonl", LINES, [(n + 1, {"n": n}) for n in range(3000)]),
        ("pipe.json", b'[{"n": 1},\n{"n": 2}]', [(1, {"n": 1}), (2, {"n": 2})]),
        ("pipe.csv", b"q;good\n1;2\n", [(2, {"q": "1", "good": "2"})]),
    ],
)
def test_a_named_pipe_is_read_once(tmp_path, name, content, rows):
    pipe = tmp_path / name
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(content,))
    feeder.start()
    assert seen(pipe) == rows
    feeder.join()


def test_a_table_from_a_named_pipe_is_refused_since_it_needs_random_access(tmp_path):
    pipe = tmp_path / "a.parquet"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(b"PAR1",))
    feeder.start()
    assert refusal(pipe).endswith("parquet files cannot be read from a pipe; save it to a file first.")
    feeder.join()


def test_pipes_in_a_folder_are_left_alone(tmp_path):
    os.mkfifo(tmp_path / "b.jsonl")
    written(tmp_path / "a.jsonl", "")
    assert [Path(file.location).name for file in find_inputs([tmp_path])] == ["a.jsonl"]


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_a_conversion_reads_the_output_of_another_process(tmp_path):
    written(tmp_path / "a.jsonl", pairs("a", "b"))
    command = (
        f"{sys.executable} -m dpo_data convert pairs --form text --input <(cat a.jsonl) --input-format jsonl -o out -q"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert open_prepared(tmp_path / "out").manifest.pairs == 2
