"""Mixing: counts, order, samples, names and columns."""

from fractions import Fraction

import numpy as np
import pytest
from conversions import pair, rows_of
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpo_data import mix, open_prepared, validate, where
from dpo_data.errors import UsageError
from dpo_data.shaping.interleaving import cut, order_of
from dpo_data.shaping.mix import parse_part
from dpo_data.shaping.sampling import Sample

SIZES = st.lists(st.integers(0, 12), min_size=1, max_size=4).filter(any)


def naive_order(sizes):
    """Return (part, row) of a mix by sorting all keys, ties to the earlier part."""
    keys = [(Fraction(2 * row + 1, 2 * size), part, row) for part, size in enumerate(sizes) for row in range(size)]
    return [(part, row) for _, part, row in sorted(keys)]


def computed_order(sizes, block):
    total, found = sum(sizes), []
    for start in range(0, total, block):
        stop = min(start + block, total)
        spans, places = order_of(sizes, start, stop)
        rows = [(part, row) for part, (first, last) in enumerate(spans) for row in range(first, last)]
        found += [rows[n] for n in np.argsort(places)]
    return found


@given(SIZES, st.integers(1, 9))
def test_any_block_of_a_mix_is_that_of_all_rows_sorted_by_their_keys(sizes, block):
    assert computed_order(sizes, block) == naive_order(sizes)


@given(SIZES, st.integers(2, 3))
def test_the_order_of_a_larger_mix_in_the_same_ratios_begins_with_the_smaller_one(sizes, factor):
    larger = computed_order([size * factor for size in sizes], 5)
    assert larger[: sum(sizes)] == computed_order(sizes, 5)


@given(SIZES, st.integers(0, 50))
@example([2, 2, 2, 11], 3)
def test_every_part_is_close_to_its_share_at_every_position(sizes, position):
    position = min(position, sum(sizes))
    for count, size in zip(cut(sizes, position), sizes, strict=True):
        share = Fraction(size, sum(sizes))
        # Half a row of the part's own rounding, and its share of that of all parts.
        assert abs(count - position * share) <= Fraction(1, 2) + share * len(sizes) / 2


@given(st.integers(1, 300), st.integers(0, 300), st.text(max_size=3))
@settings(max_examples=25)
def test_a_sample_has_exactly_its_size_and_is_read_in_pieces(rows, size, key):
    size = min(size, rows)
    sample = Sample(key, rows, size)
    members = np.flatnonzero(sample.contains(np.arange(rows)))
    assert len(members) == size
    pieces = [sample.positions(start, min(start + 7, size)) for start in range(0, size, 7)]
    assert np.concatenate([*pieces, np.empty(0, np.int64)]).tolist() == members.tolist()
    assert set(members) <= set(np.flatnonzero(Sample(key, rows, min(rows, size + 5)).contains(np.arange(rows))))


@pytest.fixture
def folders(make_folder):
    a = make_folder("a", train=[pair(n) for n in range(6)], test=[pair(n) for n in range(20, 22)])
    return a, make_folder("b", train=[pair(n) for n in range(10, 14)])


def test_parts_are_interleaved_evenly_and_named(folders, tmp_path):
    a, b = folders
    mix([a, f"second={b}:0.5"], output=tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["dataset"] for row in rows] == ["a", "a", "second", "a", "a", "a", "second", "a"]
    assert [row["prompt"] for row in rows if row["dataset"] == "a"] == [f"Question {n}?" for n in range(6)]
    assert [row["dataset"] for row in rows_of(tmp_path / "out", "test")] == ["a", "a"]


@pytest.mark.parametrize(
    ("amount", "counts"),
    [("", (6, 2)), (":0.5", (3, 1)), (":2", (12, 4)), (":1.25", (8, 3)), ("@4", (3, 1)), ("@20", (15, 5))],
)
def test_a_part_gives_exactly_its_share_or_count(folders, tmp_path, amount, counts):
    manifest = mix([f"{folders[0]}{amount}"], output=tmp_path / "out")
    assert (manifest.splits["train"].pairs, manifest.splits["test"].pairs) == counts
    assert manifest.made_by.repeated == max(0, sum(counts) - 8)


def test_two_passes_begin_with_one(folders, tmp_path):
    mix(folders, output=tmp_path / "one")
    mix([f"{folder}:2" for folder in folders], output=tmp_path / "two")
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert two[: len(one)] == one
    assert len(two) == 2 * len(one)


def test_a_larger_sample_contains_the_smaller_one(make_folder, tmp_path):
    folder = make_folder("many", train=[pair(n) for n in range(60)])
    smaller, larger = (
        {row["id"] for row in rows_of(tmp_path / name)}
        for name, share in (("s", "0.3"), ("l", "0.6"))
        if mix([f"{folder}:{share}"], output=tmp_path / name)
    )
    assert len(smaller) == 18
    assert smaller < larger


def test_the_seed_changes_the_sample(make_folder, tmp_path):
    folder = make_folder("many", train=[pair(n) for n in range(60)])
    hashes = {
        mix([f"{folder}@20"], output=tmp_path / str(seed), seed=seed).content_hash
        for seed in (0, 0, 1, 2)
        if not (tmp_path / str(seed)).exists()
    }
    assert len(hashes) == 3


def test_a_mix_of_mixes_names_both(folders, tmp_path):
    mix(folders, output=tmp_path / "inner")
    mix([tmp_path / "inner", folders[1]], output=tmp_path / "outer")
    assert {row["dataset"] for row in rows_of(tmp_path / "outer")} == {"inner/a", "inner/b", "b"}


def test_prompts_of_a_test_split_are_left_out_of_train(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1), pair(2)])
    b = make_folder("b", train=[pair(3)], test=[pair(1, chosen=" other")])
    by_default = mix([a, b], output=tmp_path / "out")
    assert by_default.made_by.left_out == {"prompt_in_test": 1}
    assert [row["prompt"] for row in rows_of(tmp_path / "out")] == ["Question 3?", "Question 2?"]
    assert mix([a, b], output=tmp_path / "t", on_leak="drop-test").made_by.left_out == {"prompt_in_train": 1}
    moved = mix([a, b], output=tmp_path / "m", on_leak="move")
    assert (moved.made_by.moved, moved.splits["test"].pairs, moved.made_by.left_out) == (1, 2, {})
    with pytest.raises(UsageError, match="1 pairs in train have a prompt that is in test too"):
        mix([a, b], output=tmp_path / "r", on_leak="refuse")
    assert not (tmp_path / "r").exists()


def test_columns_are_the_union_and_null_where_a_part_has_none(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1, lang="en")], keep=["lang"])
    b = make_folder("b", train=[pair(2, votes=3)], keep=["votes:number"])
    mix([a, b], output=tmp_path / "out")
    assert [(row["lang"], row["votes"]) for row in rows_of(tmp_path / "out")] == [("en", None), (None, 3.0)]
    assert set(open_prepared(tmp_path / "out").manifest.kept_columns) == {"lang", "votes"}


def test_messages_with_reasoning_and_without_are_mixed(make_folder, tmp_path):
    def chat(prompt, **message):
        return {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": "yes", **message}],
            "rejected": [{"role": "assistant", "content": "no"}],
        }

    plain = make_folder("plain", train=[chat("a"), chat("b")], form="conversational")
    thinking = make_folder("thinking", train=[chat("c", reasoning_content="hm")], form="conversational")
    mix([plain, thinking], output=tmp_path / "out")
    found = {row["prompt"][0]["content"]: row["chosen"][0]["reasoning_content"] for row in rows_of(tmp_path / "out")}
    assert found == {"a": None, "b": None, "c": "hm"}


def test_a_column_with_two_types_is_refused(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1, votes=3)], keep=["votes:number"])
    b = make_folder("b", train=[pair(2, votes=3)], keep=["votes"])
    with pytest.raises(UsageError, match="the column votes is number in a and text in b"):
        mix([a, b], output=tmp_path / "out")


def test_a_column_named_dataset_is_refused(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1, dataset="x")], keep=["dataset"])
    with pytest.raises(UsageError, match="has a column dataset of its own"):
        mix([a], output=tmp_path / "out")


def test_both_forms_together_are_refused(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1)])
    b = make_folder("b", train=[pair(2)], form="conversational")
    with pytest.raises(UsageError, match="a is text and b is conversational"):
        mix([a, b], output=tmp_path / "out")


def test_both_forms_are_mixed_in_the_form_that_is_named(make_folder, tmp_path):
    a = make_folder("a", train=[pair(1, chosen=" yes"), pair(2)])
    b = make_folder("b", train=[pair(3)], form="conversational")
    manifest = mix([a, b], output=tmp_path / "chats", form="conversational")
    assert [row["prompt"] for row in rows_of(tmp_path / "chats")] == [
        [{"role": "user", "content": f"Question {n}?"}] for n in (1, 3, 2)
    ]
    assert manifest.made_by.changed == 2
    assert validate(tmp_path / "chats").damage == {}
    old = rows_of(a)[0]["id"]
    assert [use.kind for use in where(old, [tmp_path / "chats"])] == ["prepared", "prepared"]
    mix([a, b], output=tmp_path / "texts", form="text")
    assert [row["chosen"] for row in rows_of(tmp_path / "texts")] == [" yes", "  yes 3", " yes 2"]


def test_a_conversation_that_texts_cannot_hold_is_refused(make_folder, tmp_path):
    row = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "yes", "reasoning_content": "hm"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    folder = make_folder("chats", train=[row], form="conversational")
    with pytest.raises(UsageError, match=r"chats: chats/train\.jsonl:1: the response has reasoning"):
        mix([folder], output=tmp_path / "out", form="text")


def test_equal_names_are_refused(folders, tmp_path):
    with pytest.raises(UsageError, match="a: several parts have this name"):
        mix([folders[0], f"{folders[0]}:0.5"], output=tmp_path / "out")


def test_a_suffix_counts_only_if_it_is_a_number_and_no_such_path_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run:2").mkdir()
    assert parse_part("run:2")[:2] == (tmp_path.__class__("run:2"), None)
    assert parse_part("run:2:2").share == 2
    assert parse_part("x=run:a").path.name == "run:a"
    assert parse_part("x=run:a").name == "x"
    assert parse_part("a@b@7").pairs == 7
    for wrong in ("a:0", "a@0", "a@1.5"):
        with pytest.raises(UsageError, match="a share is more than 0"):
            parse_part(wrong)


def test_the_license_of_a_mix_names_all_the_strictest_first(make_folder, tmp_path):
    from dpo_data.shaping.parents import combined_license

    assert combined_license(["apache-2.0", "cc-by-nc-4.0", "unknown"]) == "unknown, cc-by-nc-4.0, apache-2.0"
    manifest = mix([make_folder("a", train=[pair(1)])], output=tmp_path / "out")
    assert manifest.source.license in (tmp_path / "out" / "README.md").read_text()
