"""Name, description and license of a dataset, and the published folder."""

import shutil

import datasets
import pytest

from dpo_data import UsageError, convert, open_prepared

ROWS = [{"prompt": f"Question {n}?", "chosen": f" yes {n}", "rejected": f" no {n}"} for n in range(3)]
LABELS = {"name": "Mine: all", "description": "Pairs of ours.", "license": "cc-by-4.0"}


@pytest.fixture
def make_named(tmp_path, write_rows):
    """A function that converts rows with labels to a prepared folder."""

    def make(rows, **options):
        convert("pairs", [write_rows(tmp_path / "raw.jsonl", rows)], output=tmp_path / "prepared", **options)
        return tmp_path / "prepared"

    return make


def test_labels_are_kept_in_the_manifest_and_on_the_card(make_named):
    folder = make_named(ROWS, **LABELS)
    manifest = open_prepared(folder).manifest
    assert {name: getattr(manifest, name) for name in LABELS} == LABELS
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    assert "# Mine: all: preference pairs\n\nPairs of ours.\n" in card
    assert "License: cc-by-4.0. License of the source: unknown." in card


def test_a_folder_that_is_converted_again_keeps_its_labels(make_named, tmp_path):
    folder = make_named(ROWS, **LABELS)
    manifest = convert("pairs", [folder], output=tmp_path / "again", license="mit")
    assert (manifest.name, manifest.description, manifest.license) == ("Mine: all", "Pairs of ours.", "mit")


def test_a_license_of_two_lines_is_refused(make_named):
    with pytest.raises(UsageError, match="must be one line of text"):
        make_named(ROWS, license="mit\ntags: []")


def test_a_published_folder_loads_through_its_card(make_named, tmp_path):
    folder = make_named([*ROWS, {"prompt": "a", "chosen": "", "rejected": "b"}], max_invalid=0.5, **LABELS)
    private = shutil.ignore_patterns("quarantine", "tokens", "reference", "provenance.json")
    published = shutil.copytree(folder, tmp_path / "published", ignore=private)
    loaded = datasets.load_dataset(str(published), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["prompt"] == [row["prompt"] for row in ROWS]
