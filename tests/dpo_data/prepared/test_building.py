"""Folders appear when they are complete, replace only what is ours, and are written by one run at a time."""

import json
import multiprocessing
import os
import time
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared
from dpo_data.errors import PreparedError, UsageError
from dpo_data.prepared.building import building
from dpo_data.prepared.reader import damaged_files

ROWS = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(3)]
#: The manifest of a folder without files, as far as `building` reads it.
MINIMAL = json.dumps({"format": "dpo-data prepared", "version": 2, "files": {}})


def tree(folder: Path) -> dict[str, str]:
    """Return the content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def raw(tmp_path, write_rows) -> Path:
    return write_rows(tmp_path / "in" / "train.jsonl", ROWS)


def refusal(raw: Path, output: Path, *, overwrite: bool = True) -> str:
    """Return why a conversion refuses its output, which is left as it was."""
    before = tree(output)
    with pytest.raises(UsageError) as refused:
        convert("pairs", [raw], output=output, overwrite=overwrite, form="text")
    assert tree(output) == before
    return str(refused.value).splitlines()[0]


# Folders of others.


@pytest.mark.parametrize(
    "manifest",
    [
        '{"name": "my app"}',
        "not json",
        "[" * 100_000,
        '{"format": "dpo-data prepared", "version": 3, "files": {}}',
        '{"format": "dpo-data tokens", "version": 2, "files": {}}',
        '{"format": "dpo-data prepared", "version": 2, "files": {"../../elsewhere": {}}}',
        '{"format": "dpo-data prepared", "version": 2}',
    ],
)
def test_a_folder_whose_manifest_is_not_ours_is_never_replaced(tmp_path, raw, manifest):
    web = tmp_path / "web"
    (web / "train").mkdir(parents=True)
    (web / "manifest.json").write_text(manifest)
    (web / "README.md").write_text("mine")
    (web / "train" / "labels.csv").write_text("mine")
    assert refusal(raw, web) == (
        f"{web}/manifest.json: is not a manifest of dpo-data prepared, or of a newer version, or damaged."
    )


@pytest.mark.parametrize("name", ["big.iso", "lock"])
def test_a_partial_folder_of_another_program_is_refused(tmp_path, raw, name):
    folder = tmp_path / "dl"
    (folder / "train").mkdir(parents=True)
    (folder / ".partial").mkdir()
    (folder / "train" / "labels.csv").write_text("mine")
    (folder / ".partial" / name).write_text("mine")
    expected = f"{folder}/.partial: is not a folder of this program, which builds its output there."
    assert refusal(raw, folder, overwrite=False) == expected


def test_an_empty_partial_folder_does_not_make_files_of_others_ours(tmp_path, raw):
    folder = tmp_path / "dl"
    (folder / ".partial").mkdir(parents=True)
    (folder / "labels.csv").write_text("mine")
    assert refusal(raw, folder) == f"{folder}: holds files that are not ours."
    (folder / "labels.csv").unlink()
    convert("pairs", [raw], output=folder, form="text")
    assert open_prepared(folder).manifest.pairs == 3


@pytest.mark.parametrize("finished", [False, True])
def test_a_partial_folder_that_is_a_link_is_refused_and_its_target_is_left_alone(tmp_path, raw, finished):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    evil = tmp_path / "evil"
    if finished:
        convert("pairs", [raw], output=evil, form="text")
    else:
        evil.mkdir()
    (evil / ".partial").symlink_to("../precious")
    assert "is not a folder of this program" in refusal(raw, evil)
    assert tree(tmp_path / "precious") == {"thesis.txt": "mine"}


def test_overwriting_removes_what_the_old_manifest_names_and_what_belongs_to_it(tmp_path, raw, write_rows):
    folder = tmp_path / "out"
    convert("pairs", [write_rows(tmp_path / "in" / "test.jsonl", [*ROWS, "{"])], output=folder, form="text")
    for ours in ("report.json", "report.html", "quarantine/more.jsonl", "test/cache-0123.arrow"):
        (folder / ours).parent.mkdir(exist_ok=True)
        (folder / ours).write_text("old")
    for mine in ("test/labels.csv", "notes/a.txt", "report.pdf", "cache-1.arrow", "tokens/key/b"):
        (folder / mine).parent.mkdir(parents=True, exist_ok=True)
        (folder / mine).write_text("mine")
    convert("pairs", [raw], output=folder, overwrite=True, form="text")
    assert sorted(tree(folder)) == [
        "README.md",
        "cache-1.arrow",
        "dataset_dict.json",
        "manifest.json",
        "notes/a.txt",
        "provenance.json",
        "report.pdf",
        "test/labels.csv",
        "tokens/key/b",
        "train/data-00000-of-00001.arrow",
        "train/dataset_info.json",
        "train/state.json",
    ]
    assert damaged_files(folder, open_prepared(folder).manifest.files) == {}


def test_a_file_of_another_program_whose_name_is_needed_is_not_replaced(tmp_path, raw, write_rows):
    folder = tmp_path / "out"
    convert("pairs", [raw], output=folder, form="text")
    (folder / "test").mkdir()
    (folder / "test" / "state.json").write_text("mine")
    new = write_rows(tmp_path / "in" / "test.jsonl", ROWS)
    assert refusal(new, folder) == (
        f"{folder}/test/state.json: is not a file that this program wrote, and the new folder needs its name."
    )
    assert not (folder / ".partial").exists()


def test_links_in_a_folder_that_is_replaced_are_not_followed(tmp_path, raw):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    convert("pairs", [raw], output=folder, form="text")
    (folder / "train").rename(elsewhere)
    (folder / "train").symlink_to(elsewhere)
    (folder / "README.md").rename(elsewhere / "README.md")
    (folder / "README.md").symlink_to(elsewhere / "README.md")
    before = tree(elsewhere)
    convert("pairs", [raw], output=folder, overwrite=True, form="text")
    assert tree(elsewhere) == before
    assert not (folder / "train").is_symlink()
    assert damaged_files(folder, open_prepared(folder).manifest.files) == {}


def test_a_link_of_others_where_a_new_split_belongs_is_refused(tmp_path, raw, write_rows):
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    convert("pairs", [raw], output=folder, form="text")
    elsewhere.mkdir()
    (folder / "test").symlink_to(elsewhere)
    new = write_rows(tmp_path / "in" / "test.jsonl", ROWS)
    assert refusal(new, folder).startswith(f"{folder}/test: is not a file that this program wrote")
    assert list(elsewhere.iterdir()) == []


def test_the_output_folder_itself_may_be_a_link(tmp_path, raw):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    for _ in range(2):
        convert("pairs", [raw], output=tmp_path / "out", overwrite=True, form="text")
    assert (tmp_path / "out").is_symlink()
    assert open_prepared(tmp_path / "disk").manifest.pairs == 3
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a link to a folder that does not exist"):
        convert("pairs", [raw], output=tmp_path / "broken", form="text")


# Names from manifests.


@pytest.mark.parametrize("split", ["../../x", "/x", "validation", ""])
def test_a_split_name_in_a_manifest_is_never_a_path(make_prepared, split):
    folder = make_prepared(ROWS)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"][split] = manifest["splits"].pop("train")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PreparedError) as refused:
        open_prepared(folder)
    assert str(refused.value).startswith(
        f"{folder}/manifest.json: names the split {split!r}, which is not train or test."
    )


@pytest.mark.parametrize("name", ["../x.arrow", "/x.arrow", "train/../../x.arrow", "./x.arrow", ".partial/x", "a\\b"])
def test_a_file_name_in_a_manifest_is_never_a_path_to_elsewhere(make_prepared, name):
    folder = make_prepared(ROWS)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["README.md"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PreparedError) as refused:
        open_prepared(folder)
    assert str(refused.value).startswith(
        f"{folder}/manifest.json: names the file {name!r}, which is not below its folder."
    )


def test_a_shard_outside_the_folder_of_its_split_is_refused(make_prepared):
    folder = make_prepared(ROWS)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"] = ["README.md"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PreparedError, match=r"'README.md' is a shard of train, but not in its folder"):
        open_prepared(folder)


# Runs that fail, and runs at the same time.


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_is_not_finished_is_removed_and_the_exception_passes(tmp_path, error):
    with pytest.raises(error) as raised, building(tmp_path / "new", "prepared", overwrite=False) as scratch:  # noqa: PT012
        (scratch / "half.txt").write_text("half")
        raise error("stop")
    assert list(tmp_path.iterdir()) == []
    notes = [f"{tmp_path}/new: nothing of this run was left behind."] if error is KeyboardInterrupt else []
    assert getattr(raised.value, "__notes__", []) == notes


def test_a_finished_folder_is_unchanged_if_its_replacement_is_stopped(make_prepared):
    folder = make_prepared(ROWS)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(KeyboardInterrupt), building(folder, "prepared", overwrite=True):
        raise KeyboardInterrupt
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def try_to_build(folder: Path) -> str:
    try:
        with building(folder, "prepared", overwrite=True) as scratch:
            (scratch / "manifest.json").write_text(MINIMAL)
    except UsageError as error:
        return str(error)
    return "built"


def test_a_folder_that_another_process_is_building_is_refused_until_it_is_done(tmp_path):
    folder = tmp_path / "out"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        with building(folder, "prepared", overwrite=False) as scratch:
            (scratch / "manifest.json").write_text(MINIMAL)
            assert pool.apply(try_to_build, (folder,)) == (
                f"{folder}: another run is writing it.\n  Wait for it, or name another folder."
            )
            assert try_to_build(folder) == pool.apply(try_to_build, (folder,))
        assert pool.apply(try_to_build, (folder,)) == "built"


def publish(folder: Path, stop: Event, results: Any) -> None:
    """Publish into a folder again and again, each time with other content, and count what happens."""
    counts: Counter[str] = Counter()
    while not stop.is_set():
        me = f"{os.getpid()} {time.monotonic_ns()}"
        try:
            with building(folder, "prepared", overwrite=True) as scratch:
                (scratch / "x").write_text(me)
                if (scratch / "x").read_text() != me:
                    counts["written by two"] += 1
                (scratch / "y").write_text(me)
                content = {"format": "dpo-data prepared", "version": 2, "files": {"x": {}, "y": {}}, "by": me}
                (scratch / "manifest.json").write_text(json.dumps(content))
            counts["published"] += 1
        except UsageError as error:
            counts["refused" if "another run is writing it" in str(error) else str(error)] += 1
        except OSError as error:
            counts[repr(error)] += 1
    results.put(counts)


def test_two_processes_that_write_one_folder_never_mix_their_files(tmp_path):
    folder = tmp_path / "out"
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    writers = [context.Process(target=publish, args=(folder, stop, results)) for _ in range(2)]
    for writer in writers:
        writer.start()
    reads, seen = Counter[str](), set[str]()
    deadline = time.monotonic() + 30
    while any(sum(str(writer.pid) in each for each in seen) < 20 for writer in writers) and time.monotonic() < deadline:
        try:
            before = (folder / "manifest.json").read_text()
            content = {(folder / name).read_text() for name in ("x", "y")}
            if (folder / "manifest.json").read_text() == before:
                reads["whole" if content == {json.loads(before)["by"]} else "mixed"] += 1
                seen |= content
        except FileNotFoundError:
            reads["unfinished"] += 1
    stop.set()
    by_process = [results.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join()
    assert reads["mixed"] == 0
    for counts in by_process:
        assert counts["published"] >= 20
        assert counts.keys() <= {"published", "refused"}
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "x", "y"]
