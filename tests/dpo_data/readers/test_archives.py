"""Zip and tar archives: their members one after another, with their own names and splits."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from raw_files import refusal, seen, written

from dpo_data import convert
from dpo_data.errors import UsageError
from dpo_data.readers.inputs import find_inputs

PAIR = '{"prompt": "Q%d?", "chosen": "yes", "rejected": "no"}\n'
MEMBERS = {
    "set/train.jsonl": PAIR % 1 + PAIR % 2,
    "set/test.jsonl": PAIR % 3,
    "set/validation/a.csv": "prompt,chosen,rejected\nQ4?,yes,no\n",
}


def zip_of(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tar_of(path: Path, members: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("set/link.jsonl")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


@pytest.mark.parametrize(("name", "make"), [("data.zip", zip_of), ("data.tar.gz", tar_of)])
def test_members_have_their_own_names_and_splits(tmp_path, name, make):
    (file,) = find_inputs([make(tmp_path / name, MEMBERS)])
    found = [(chunk.file, chunk.split, [row.line for row in chunk.rows()]) for chunk in file.chunks()]
    assert found == [
        (f"{tmp_path.name}/{name}/set/train.jsonl", "train", [1, 2]),
        (f"{tmp_path.name}/{name}/set/test.jsonl", "test", [1]),
        (f"{tmp_path.name}/{name}/set/validation/a.csv", "test", [2]),
    ]


@pytest.mark.parametrize(("name", "make"), [("data.zip", zip_of), ("data.tar.gz", tar_of)])
def test_a_conversion_of_an_archive_counts_the_rows_of_each_member(tmp_path, name, make):
    manifest = convert("pairs", make(tmp_path / name, MEMBERS), output=tmp_path / "out", form="text")
    assert [(entry.file, entry.split, entry.rows) for entry in manifest.inputs] == [
        (f"{tmp_path.name}/{name}/set/train.jsonl", "train", 2),
        (f"{tmp_path.name}/{name}/set/test.jsonl", "test", 1),
        (f"{tmp_path.name}/{name}/set/validation/a.csv", "test", 1),
    ]
    assert {split: entry.pairs for split, entry in manifest.splits.items()} == {"train": 2, "test": 2}


def test_a_given_split_is_that_of_all_members(tmp_path):
    (file,) = find_inputs([zip_of(tmp_path / "a.zip", MEMBERS)], split="train")
    assert {chunk.split for chunk in file.chunks()} == {"train"}


def test_members_without_a_split_in_their_name_have_the_split_of_the_archive(tmp_path):
    (file,) = find_inputs([zip_of(tmp_path / "test.zip", {"a.jsonl": PAIR, "train.jsonl": PAIR})])
    assert [chunk.split for chunk in file.chunks()] == ["test", "train"]


def test_a_given_format_is_that_of_all_members_but_hidden_ones(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"rows.txt": PAIR % 1, "more": PAIR % 2, "__MACOSX/._more": "\0"})
    assert [value["prompt"] for _, value in seen(path, input_format="jsonl")] == ["Q1?", "Q2?"]


def test_names_of_members_are_labels_alone(tmp_path):
    (tmp_path / "x" / "y").mkdir(parents=True)
    path = zip_of(
        tmp_path / "x" / "y" / "a.zip", {"../../up.jsonl": PAIR % 1, "/etc/root.jsonl": PAIR % 2, "./a.jsonl": PAIR % 3}
    )
    assert [value["prompt"] for _, value in seen(path)] == ["Q1?", "Q2?", "Q3?"]
    (file,) = find_inputs([path])
    assert [chunk.file.removeprefix("y/a.zip/") for chunk in file.chunks()] == [
        "../../up.jsonl",
        "/etc/root.jsonl",
        "a.jsonl",
    ]
    assert list(tmp_path.rglob("*.*")) == [path]


def test_an_error_in_a_member_names_it(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a.jsonl": PAIR, "b.csv": 'q,good\n1,"2\n'})
    assert refusal(path) == (
        f"{tmp_path.name}/a.zip/b.csv: cannot be read: it ends inside a quoted field that starts at line 2."
    )


def test_rows_of_a_group_in_two_members_stay_apart(tmp_path):
    row = {"prompt": "Q?", "response": "a", "helpfulness": 1}
    lines = [json.dumps(row | {"response": text, "helpfulness": score}) + "\n" for text, score in [("a", 1), ("b", 3)]]
    path = zip_of(tmp_path / "a.zip", {f"{name}.jsonl": "".join(lines) for name in ("one", "two")})
    manifest = convert("helpsteer2", path, output=tmp_path / "out", max_invalid=1)
    assert [(entry.file.rpartition("/")[2], entry.rows) for entry in manifest.inputs] == [
        ("one.jsonl", 2),
        ("two.jsonl", 2),
    ]


def test_the_first_row_of_every_member_must_be_of_the_source(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"one.csv": "prompt,chosen,rejected\na,b,c\n", "two.csv": "q,good\na,b\n"})
    with pytest.raises(Exception, match=r'a\.zip/two\.csv: has no column "chosen"'):
        convert("pairs", path, output=tmp_path / "out", form="text")


def test_a_delimiter_is_for_tables_in_text(tmp_path):
    path = zip_of(tmp_path / "a.zip", {"a.csv": "q#good\n1#2\n", "b.jsonl": '{"q": "3"}'})
    assert seen(path, delimiter="#") == [(2, {"q": "1", "good": "2"}), (1, {"q": "3"})]
    with pytest.raises(UsageError, match="applies to CSV and TSV files, and no input is one"):
        find_inputs([written(tmp_path / "a.jsonl", "")], delimiter=";")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"a.jsonl", b"\0.jsonl", "a member has no name"),
        (b"PK\1\2\x14\x03\x14", b"PK\1\2\x14\x03\x7f", "zip file version 12.7"),
        ("ü.jsonl".encode(), b"\xff\xff.jsonl", "can't decode"),
    ],
)
def test_a_zip_archive_with_a_damaged_directory_is_refused(tmp_path, old, new, reason):
    path = zip_of(tmp_path / "x.zip", {"a.jsonl": PAIR % 1, "ü.jsonl": PAIR % 2})
    path.write_bytes(path.read_bytes().replace(old, new))
    said = refusal(path)
    assert "x.zip: cannot be read: damaged zip archive: " in said
    assert reason in said


def test_damaged_lzma_in_a_zip_archive_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jsonl", PAIR % 1 * 50)
    damaged = bytearray(path.read_bytes())
    damaged[60:70] = bytes(10)
    path.write_bytes(damaged)
    assert "a.jsonl in the archive is damaged" in refusal(path)
