"""Filtering by conditions and findings."""

import json

import pytest
from conversions import pair, rows_of

from dpo_data import apply, filter
from dpo_data.errors import UsageError


@pytest.fixture
def folder(make_folder):
    rows = [
        pair(1, lang="en", chosen=" yes"),
        pair(2, lang="de", chosen=" yes, and more of it"),
        pair(3, chosen=" yes\n\nHuman: what?"),
        pair(1, lang="en", chosen=" yes"),
        pair(5, lang="en", chosen=" no", rejected=" yes"),
    ]
    return make_folder("in", train=rows, keep=["lang"])


def kept(folder):
    return [int(row["origin"].rpartition(":")[2]) for row in rows_of(folder)]


@pytest.mark.parametrize(
    ("where", "lines", "reasons"),
    [
        ('lang == "en"', [1, 4, 5], {"filtered": 1, "filtered_null": 1}),
        ("lang is null", [3], {"filtered": 4}),
        ("len(chosen) < 6", [1, 4, 5], {"filtered": 2}),
        ('contains(prompt, "2") or contains(origin, "jsonl:5")', [2, 5], {"filtered": 3}),
        ("turns is null", [1, 2, 3, 4, 5], {}),
    ],
)
def test_only_pairs_that_meet_the_condition_are_kept(folder, tmp_path, where, lines, reasons):
    manifest = filter(folder, output=tmp_path / "out", where=where)
    assert kept(tmp_path / "out") == lines
    assert manifest.made_by.left_out == reasons


def test_conversations_are_filtered_by_their_texts_and_turns(make_folder, tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": text}], "chosen": " yes", "rejected": " no"} for text in ("hi", "hello")
    ]
    folder = make_folder("chats", train=rows, form="conversational")
    filter(folder, output=tmp_path / "out", where='turns == 1 and startswith(prompt, "he")')
    assert [row["prompt"][0]["content"] for row in rows_of(tmp_path / "out")] == ["hello"]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"drop_findings": ["role_marker_in_response"]}, [1, 2, 4, 5]),
        ({"drop_findings": ["duplicate_pair"]}, [1, 2, 3, 5]),
        ({"keep_findings": ["role_marker_in_response", "duplicate_pair"]}, [3, 4]),
        ({"where": 'lang == "en"', "drop_findings": ["duplicate_pair"]}, [1, 5]),
    ],
)
def test_pairs_with_findings_are_dropped_or_kept(folder, tmp_path, options, lines):
    filter(folder, output=tmp_path / "out", **options)
    assert kept(tmp_path / "out") == lines


def test_the_decision_keep_protects_a_pair_from_drop_findings(folder, tmp_path):
    id_ = rows_of(folder)[2]["id"]
    (tmp_path / "decisions.jsonl").write_text(json.dumps({"id": id_, "action": "keep"}))
    apply(tmp_path / "decisions.jsonl", folder, output=tmp_path / "decided")
    filter(tmp_path / "decided", output=tmp_path / "out", drop_findings=["role_marker_in_response"])
    assert kept(tmp_path / "out") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to filter by"),
        ({"where": "langs == 1"}, 'there is no column "langs"(.|\n)*Did you mean lang'),
        ({"where": "lang =="}, "it cannot be read"),
        ({"where": "lang > 2"}, r"cannot be compared by their order(.|\n)*The pair of in/train.jsonl:1 has such a"),
        ({"drop_findings": ["duplicates"]}, "is not a check that filter runs"),
        ({"drop_findings": ["near_duplicate_prompt"]}, "dedup --near"),
        ({"drop_findings": ["bad_characters"], "keep_findings": ["bad_characters"]}, "both dropped and kept"),
    ],
)
def test_what_cannot_be_filtered_by_is_refused(folder, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        filter(folder, output=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
