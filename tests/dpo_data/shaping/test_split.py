"""Splitting by families, and sampling."""

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from conversions import pair, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_data import convert, sample_pairs, split
from dpo_data.errors import UsageError
from dpo_data.shaping.sample import apportioned
from dpo_data.shaping.split import _fitting


def prompts(folder, name):
    return [row["prompt"] for row in rows_of(folder, name)]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=30),
    st.lists(st.integers(0, 12), max_size=10),
    st.integers(1, 99),
    st.booleans(),
)
@settings(max_examples=8, deadline=None)
def test_the_pairs_of_a_prompt_are_never_in_two_splits(tmp_path_factory, train, test, percent, keep_test):
    folder = tmp_path_factory.mktemp("split")
    for name, numbers in (("train", train), ("test", test)):
        lines = [json.dumps(pair(n, chosen=f" yes {row}")) for row, n in enumerate(numbers)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    convert("pairs", [folder / "train.jsonl", folder / "test.jsonl"], output=folder / "in", form="text")
    manifest = split(folder / "in", output=folder / "out", test=percent / 100, keep_test=keep_test)
    in_train, in_test = prompts(folder / "out", "train"), prompts(folder / "out", "test")
    assert not set(in_train) & set(in_test)
    assert len(in_train) + len(in_test) == len(train) + len(test)
    assert manifest.made_by.left_out == {}
    if keep_test:
        assert set(prompts(folder / "in", "test")) <= set(in_test)
    else:
        assert len(in_test) <= int(Fraction(percent * (len(train) + len(test)), 100) + Fraction(1, 2))


def test_prompts_that_occur_once_give_exactly_the_share(make_folder, tmp_path):
    folder = make_folder("a", train=[pair(n) for n in range(40)], test=[pair(n) for n in range(40, 60)])
    manifest = split(folder, output=tmp_path / "out", test=0.15)
    assert {name: entry.pairs for name, entry in manifest.splits.items()} == {"train": 51, "test": 9}
    assert manifest.made_by.notes == []
    other = split(folder, output=tmp_path / "other", test=0.15, seed=1)
    assert other.content_hash != manifest.content_hash


def test_a_family_larger_than_the_share_is_in_train_and_said(make_folder, tmp_path):
    rows = [pair(1, chosen=f" yes {n}") for n in range(10)] + [pair(n) for n in range(2, 12)]
    manifest = split(make_folder("a", train=rows), output=tmp_path / "out", test=0.3)
    assert set(prompts(tmp_path / "out", "train")) >= {"Question 1?"}
    assert len(prompts(tmp_path / "out", "test")) == 6
    assert manifest.made_by.notes == ["1 family of more pairs than test would have (6): 10 pairs, all in train."]


def test_chains_of_near_prompts_are_one_family(make_folder, tmp_path):
    chain = [" ".join(f"word{number}" for number in range(start, start + 40)) for start in range(4)]
    others = [f"Tell me about number {n} and why it is a good one, in {n} words." for n in range(100, 116)]
    rows = [pair(n, prompt=prompt) for n, prompt in enumerate(chain + others)]
    folder = make_folder("a", train=rows)
    for seed in range(4):
        split(folder, output=tmp_path / "out", test=0.5, by="near-prompt", seed=seed, overwrite=True)
        assert len(set(chain) & set(prompts(tmp_path / "out", "test"))) in (0, 4)


def test_a_column_makes_families_and_null_is_the_prompts_own(make_folder, tmp_path):
    rows = [pair(n, user=f"u{n % 3}") if n < 12 else pair(n) for n in range(20)]
    folder = make_folder("a", train=rows, keep=["user"])
    split(folder, output=tmp_path / "out", test=0.3, by="user")
    users = {name: Counter(row["user"] for row in rows_of(tmp_path / "out", name)) for name in ("train", "test")}
    assert not (set(users["train"]) & set(users["test"])) - {None}
    assert sum(users["test"].values()) == 6


def test_prompts_shared_by_families_of_a_column_are_left_out_of_train(make_folder, tmp_path):
    rows = [pair(n // 2, chosen=f" yes {n}", user=f"u{n % 2}") for n in range(10)]
    manifest = split(make_folder("a", train=rows, keep=["user"]), output=tmp_path / "out", test=0.5, by="user")
    assert manifest.made_by.left_out == {"prompt_in_test": 5}


def test_what_cannot_be_split_is_refused(make_folder, tmp_path):
    folder = make_folder("a", train=[pair(1)])
    with pytest.raises(UsageError, match="choose prompt, near-prompt or a column"):
        split(folder, output=tmp_path / "out", test=0.5, by="users")
    for share in (0, 1, 1.5):
        with pytest.raises(UsageError, match="must be more than 0 and less than 1"):
            split(folder, output=tmp_path / "out", test=share)


@given(st.lists(st.integers(1, 9), max_size=20), st.integers(0, 40))
def test_families_fill_the_room_first_come_first_served(sizes, room):
    expected, left = [], room
    for number, size in enumerate(sizes):
        if size <= left:
            expected.append(number)
            left -= size
    assert _fitting(np.array(sizes, np.int64), room).tolist() == expected


def test_a_sample_keeps_the_proportions_of_a_column(make_folder, tmp_path):
    rows = [pair(n, lang="en" if n % 4 else "de") for n in range(40)]
    folder = make_folder("a", train=rows, keep=["lang"])
    manifest = sample_pairs(folder, output=tmp_path / "out", size=12, stratify="lang")
    assert Counter(row["lang"] for row in rows_of(tmp_path / "out")) == {"en": 9, "de": 3}
    assert manifest.made_by.left_out == {"not_sampled": 28}
    larger = sample_pairs(folder, output=tmp_path / "larger", size=0.6, stratify="lang")
    assert larger.pairs == 24
    assert {row["id"] for row in rows_of(tmp_path / "out")} < {row["id"] for row in rows_of(tmp_path / "larger")}


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_strata_give_the_wanted_number_and_each_its_share(sizes, data):
    counts = Counter({("train", name): size for name, size in sizes.items()})
    wanted = data.draw(st.integers(1, counts.total()))
    shares = apportioned(counts, wanted)
    assert sum(shares.values()) == wanted
    for stratum, share in shares.items():
        assert abs(share - Fraction(wanted * counts[stratum], counts.total())) < 1
        assert share <= counts[stratum]


@pytest.mark.parametrize("size", [0, 2, 1.0, 0.0])
def test_a_sample_of_nothing_or_of_more_than_there_is_is_refused(make_folder, tmp_path, size):
    with pytest.raises(UsageError, match="must be a share, as in 5%, or a number of pairs up to 1"):
        sample_pairs(make_folder("a", train=[pair(1)]), output=tmp_path / "out", size=size)
