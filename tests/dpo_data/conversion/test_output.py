"""Output folders: new, finished, foreign, and without permission or space."""

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conversions import hashes, pair, prompts, refusal

from dpo_data import convert, open_prepared
from dpo_data.errors import InputError, UsageError


def test_a_finished_folder_is_replaced_only_with_overwrite(tmp_path, raw, write_rows):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out, form="text")
    before = hashes(out)
    assert refusal(UsageError, raw, output=out) == (
        f"{out}: holds a finished dataset.\n  Replace it with overwrite=True, or name another."
    )
    assert hashes(out) == before
    other = write_rows(tmp_path / "in" / "test.jsonl", [pair(2), pair(3, chosen="")])
    (out / "notes.txt").write_text("mine")
    (out / "tokens" / "key").mkdir(parents=True)
    convert("pairs", [other], output=out, overwrite=True, max_invalid=0.5, form="text")
    assert prompts(out) == {"test": ["Question 2?"]}
    # The old split is removed; token caches and files that are not ours stay.
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "dataset_dict.json",
        "manifest.json",
        "notes.txt",
        "provenance.json",
        "quarantine",
        "test",
        "tokens",
    ]


def test_a_rejected_folder_is_replaced_without_overwrite(tmp_path, raw, write_rows):
    out = tmp_path / "out"
    bad = write_rows(tmp_path / "in" / "test.jsonl", [pair(2), pair(3, chosen="")])
    assert convert("pairs", [bad], output=out).status == "rejected"
    (out / "notes.txt").write_text("mine")
    assert convert("pairs", [raw], output=out).status == "complete"
    assert prompts(out) == {"train": ["Question 1?"]}
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "quarantine").exists()
    (out / "manifest.json").write_text('{"status": "rejected"}')
    assert "is not a manifest of dpo-data" in refusal(UsageError, raw, output=out)


def test_a_run_that_fails_leaves_the_finished_folder_as_it_was(tmp_path, raw):
    out = tmp_path / "out"
    convert("pairs", [raw], output=out, form="text")
    before = hashes(out)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    refusal(InputError, tmp_path / "bad.csv", output=out, overwrite=True)
    assert hashes(out) == before
    assert open_prepared(out).manifest.pairs == 1


def test_a_folder_with_files_that_are_not_ours_is_left_alone(tmp_path, raw):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        assert refusal(UsageError, raw, output=out, overwrite=overwrite) == (
            f"{out}: holds files that are not ours.\n  Name a folder that is new or empty."
        )
    assert {path.name: path.read_text() for path in out.iterdir()} == {"thesis.txt": "years of work"}


def test_an_output_that_is_a_file_is_left_alone(tmp_path, raw):
    message = f"{raw}: is a file.\n  Name a folder that is new or empty."
    before = raw.read_bytes()
    assert refusal(UsageError, raw, output=raw, overwrite=True) == message
    assert raw.read_bytes() == before


def test_an_empty_folder_is_used_and_left_empty_by_a_run_that_fails(tmp_path, raw):
    out = tmp_path / "out"
    out.mkdir()
    refusal(InputError, tmp_path / "none.jsonl", output=out)
    (tmp_path / "empty.jsonl").touch()
    refusal(InputError, tmp_path / "empty.jsonl", output=out)
    assert list(out.iterdir()) == []
    convert("pairs", [raw], output=out, form="text")
    assert open_prepared(out).manifest.pairs == 1


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run the block as another user if the tests run as root, whom no permission stops."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_folder_without_permission_is_refused(write_rows):
    # Not tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_rows(folder / "a.jsonl", [pair(1)])
        folder.chmod(0o555)
        with without_privileges():
            found = refusal(UsageError, source, output=folder / "out")
        assert found == f"{folder / 'out'}: no permission to write there.\n  Write to another folder."
        source.chmod(0)
        folder.chmod(0o777)
        with without_privileges():
            found = refusal(InputError, source, output=folder / "out")
        assert found == f"{folder.name}/a.jsonl: no permission to read it."


def test_a_full_disk_is_reported_and_nothing_is_left(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [pair(n, chosen="word " * 200) for n in range(500)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        found = refusal(UsageError, raw, output=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert found == (
        f"{tmp_path / 'out'}: writing failed: Error writing bytes to file. Detail: [errno 27] File too large.\n"
        "  No incomplete output was left behind. Free some space, or write to another folder."
    )
    assert not (tmp_path / "out").exists()
