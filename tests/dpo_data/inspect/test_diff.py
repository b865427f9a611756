"""`dpo-data diff`: the differences between two prepared folders."""

import json

import pytest

from dpo_data.errors import UsageError
from dpo_data.inspect.diff import diff


def pair(prompt, chosen="yes it is", rejected="no", **scores):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **scores}


OLD = [
    pair("same"),
    pair("gone"),
    pair("turned"),
    pair("edited", "a cat sat here", "dog"),
    pair("twice"),
    pair("twice"),
]
NEW = [
    pair("turned", "no", "yes it is"),
    pair("edited", "a cat sits here", "dog"),
    pair("twice"),
    pair("new"),
    pair("same"),
]


@pytest.fixture
def folders(make_prepared):
    return make_prepared(OLD, "a"), make_prepared(NEW, "b")


def test_every_pair_is_counted_once(folders):
    found = diff(*folders)
    assert (found.pairs_a, found.pairs_b, found.unchanged) == (6, 5, 2)
    counts = {name: getattr(found, name).pairs for name in ("moved", "flipped", "changed", "removed", "added")}
    assert counts == {"moved": 0, "flipped": 1, "changed": 1, "removed": 2, "added": 1}
    assert found.unchanged + counts["flipped"] + counts["changed"] + counts["removed"] == found.pairs_a
    assert found.unchanged + counts["flipped"] + counts["changed"] + counts["added"] == found.pairs_b


def test_examples_show_both_sides(folders):
    found = diff(*folders)
    (flipped,) = found.flipped.examples
    assert (flipped.prompt, flipped.chosen_a, flipped.chosen_b) == ("turned", "yes it is", "no")
    assert (flipped.place_a, flipped.place_b) == ("train:2", "train:0")
    (changed,) = found.changed.examples
    assert (changed.chosen_a, changed.chosen_b, changed.rejected_a) == ("a cat sat here", "a cat sits here", "dog")
    assert [example.prompt for example in found.removed.examples] == ["gone", "twice"]
    assert [(example.prompt, example.id_a) for example in found.added.examples] == [("new", None)]


def test_the_order_of_the_rows_does_not_matter(make_prepared):
    assert diff(make_prepared(OLD, "a"), make_prepared(OLD[::-1], "b")).same


def test_pairs_that_change_their_split_are_moved(tmp_path, write_rows):
    from dpo_data import convert

    for name, splits in (("a", {"train": OLD[:3], "test": OLD[3:4]}), ("b", {"train": OLD[:2], "test": OLD[2:4]})):
        for split, rows in splits.items():
            write_rows(tmp_path / name / f"{split}.jsonl", rows)
        convert("pairs", [tmp_path / name], output=tmp_path / f"prepared-{name}", form="text")
    found = diff(tmp_path / "prepared-a", tmp_path / "prepared-b")
    assert not found.same
    assert (found.unchanged, found.moved.pairs, found.moved.by_split) == (3, 1, {"train -> test": 1})


def test_a_copy_in_another_split_counts_as_added_not_as_moved(tmp_path, write_rows):
    from dpo_data import convert

    for name, test in (("a", [OLD[0]]), ("b", [OLD[0], OLD[1]])):
        write_rows(tmp_path / name / "train.jsonl", OLD[:2])
        write_rows(tmp_path / name / "test.jsonl", test)
        convert("pairs", [tmp_path / name], output=tmp_path / f"prepared-{name}", form="text")
    found = diff(tmp_path / "prepared-a", tmp_path / "prepared-b")
    assert (found.unchanged, found.moved.pairs, found.added.pairs, found.added.by_split) == (3, 0, 1, {"test": 1})


def test_shifts_are_the_numbers_that_differ(folders):
    """Prompts of a have 4, 4, 6, 6, 5 and 5 characters, those of b 6, 6, 5, 3 and 4."""
    shifts = {shift.name: (shift.a, shift.b) for shift in diff(*folders).shifts}
    assert shifts["pairs"] == (6, 5)
    assert shifts["chosen longer, share"] == (1.0, 0.8)
    assert "characters of prompt, max" not in shifts


def test_scores_shift_too(make_prepared, dpo_data):
    one = make_prepared([pair("p", chosen_score=3.0, rejected_score=1.0)], "a")
    other = make_prepared([pair("p", chosen_score=2.0, rejected_score=1.0)], "b")
    found = diff(one, other)
    assert found.same
    code, out, _ = dpo_data("diff", one, other)
    assert (code, "margin, median" in out) == (0, True)
    assert [(shift.name, shift.a, shift.b) for shift in found.shifts if "median" in shift.name] == [
        ("margin, median", 2, 1)
    ]


def test_conversations_are_compared_by_roles_and_contents(make_prepared):
    def talk(content, role="user"):
        return {
            "prompt": [{"role": role, "content": content}],
            "chosen": [{"role": "assistant", "content": "one"}],
            "rejected": [{"role": "assistant", "content": "two"}],
        }

    one = make_prepared([talk("a"), talk("b")], "a", form="conversational")
    other = make_prepared([talk("a"), talk("b", "system")], "b", form="conversational")
    found = diff(one, other)
    assert (found.unchanged, found.removed.pairs, found.added.pairs) == (1, 1, 1)


def test_text_and_conversations_cannot_be_compared(make_prepared):
    talk = {
        "prompt": [{"role": "user", "content": "a"}],
        "chosen": [{"role": "assistant", "content": "one"}],
        "rejected": [{"role": "assistant", "content": "two"}],
    }
    with pytest.raises(UsageError, match="is text"):
        diff(make_prepared(OLD, "a"), make_prepared([talk], "b", form="conversational"))


def test_the_exit_code_is_that_of_diff(folders, dpo_data):
    code, out, _ = dpo_data("diff", *folders)
    assert code == 1
    assert "flipped" in out
    assert "sits" in out
    code, out, _ = dpo_data("diff", folders[0], folders[0])
    assert code == 0
    assert "have the same pairs" in out


def test_standard_output_is_only_json(folders, dpo_data):
    code, out, _ = dpo_data("diff", *folders, "--json")
    assert code == 1
    assert json.loads(out)["flipped"]["by_split"] == {"train": 1}


def test_a_missing_folder_is_refused_without_a_traceback(folders, dpo_data, tmp_path):
    code, _, err = dpo_data("diff", folders[0], tmp_path / "nothing")
    assert code == 2
    assert "there is no such folder" in err
