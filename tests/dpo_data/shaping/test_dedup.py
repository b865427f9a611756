"""Deduplicating: copies, near duplicates, contradictions and pairs per prompt."""

import pytest
from conversions import pair, rows_of

from dpo_data import dedup
from dpo_data.errors import UsageError

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"


def kept(folder, split="train"):
    return [int(row["origin"].rpartition(":")[2]) for row in rows_of(folder, split)]


def test_without_options_only_exact_copies_are_left_out(make_folder, tmp_path):
    folder = make_folder("a", train=[pair(1), pair(2), pair(1), pair(1, chosen=" other"), pair(2)])
    manifest = dedup(folder, output=tmp_path / "out")
    assert manifest.made_by.left_out == {"duplicate_pair": 2}
    assert kept(tmp_path / "out") == [1, 2, 4]


@pytest.mark.parametrize(("prefer", "train", "test"), [("test", [2], [1]), ("train", [1, 2], [])])
def test_the_copy_of_the_preferred_split_is_kept(make_folder, tmp_path, prefer, train, test):
    folder = make_folder("a", train=[pair(1), pair(2)], test=[pair(1)])
    dedup(folder, output=tmp_path / "out", prefer=prefer)
    assert (kept(tmp_path / "out"), kept(tmp_path / "out", "test")) == (train, test)


def test_a_second_run_leaves_out_nothing_and_writes_the_same_pairs(make_folder, tmp_path):
    folder = make_folder("a", train=[pair(n % 7, score=n) for n in range(30)], test=[pair(n) for n in range(5, 12)])
    options = {"near": 0.8, "per_prompt": 1, "contradictions": "margin"}
    first = dedup(folder, output=tmp_path / "one", **options)
    second = dedup(tmp_path / "one", output=tmp_path / "two", **options)
    assert second.made_by.left_out == {}
    assert second.content_hash == first.content_hash


def scored(n, chosen, rejected, margin):
    return {
        "prompt": f"Question {n}?",
        "chosen": chosen,
        "rejected": rejected,
        "chosen_score": margin,
        "rejected_score": 0.0,
    }


CONTRADICTIONS = [
    scored(1, " a", " b", 1.0),
    scored(1, " b", " a", 3.0),
    scored(2, " a", " b", 2.0),
    scored(2, " b", " a", 2.0),
    scored(3, " a", " b", 1.0),
]


@pytest.mark.parametrize(("contradictions", "lines"), [("keep", [1, 2, 3, 4, 5]), ("drop", [5]), ("margin", [2, 5])])
def test_contradictions_are_kept_dropped_or_decided_by_the_margin(make_folder, tmp_path, contradictions, lines):
    folder = make_folder("a", train=CONTRADICTIONS)
    dedup(folder, output=tmp_path / "out", contradictions=contradictions)
    assert kept(tmp_path / "out") == lines


def test_the_pairs_of_a_prompt_with_the_largest_margins_are_kept(make_folder, tmp_path):
    rows = [scored(1, f" {n}", " no", margin) for n, margin in enumerate([1.0, 5.0, 3.0, 5.0])]
    folder = make_folder("a", train=[*rows, scored(2, " x", " no", 0.5)])
    manifest = dedup(folder, output=tmp_path / "out", per_prompt=2)
    assert kept(tmp_path / "out") == [2, 4, 5]
    assert manifest.made_by.left_out == {"over_per_prompt": 2}


def test_near_duplicates_must_be_near_in_all_three_texts(make_folder, tmp_path):
    base = {"prompt": LONG, "chosen": f" {LONG} yes", "rejected": f" {LONG} no"}
    folder = make_folder(
        "a",
        train=[
            base,
            {**base, "prompt": LONG.upper() + "!"},
            {**base, "chosen": " something else entirely, which nobody could call near"},
            {**base, "chosen": base["rejected"], "rejected": base["chosen"]},
        ],
    )
    manifest = dedup(folder, output=tmp_path / "out", near=0.8)
    assert manifest.made_by.left_out["near_duplicate_pair"] >= 1
    assert kept(tmp_path / "out")[:2] == [1, 3]
    assert 2 not in kept(tmp_path / "out")


@pytest.mark.parametrize("options", [{"near": 0.0}, {"near": 1.5}, {"per_prompt": 0}, {"contradictions": "x"}])
def test_options_out_of_their_range_are_refused(make_folder, tmp_path, options):
    with pytest.raises(UsageError):
        dedup(make_folder("a", train=[pair(1)]), output=tmp_path / "out", **options)
