"""Decisions about single pairs, redaction and decontamination."""

import json

import pytest
from conversions import pair, rows_of

from dpo_data import apply, decontaminate, redact, validate
from dpo_data.errors import InputError, UsageError
from dpo_data.prepared.steps import read_changes, read_left_out

SCORED = [
    {"prompt": f"Question {n}?", "chosen": f" yes {n}", "rejected": " no", "chosen_score": 3.0, "rejected_score": 1.0}
    for n in range(1, 7)
]


@pytest.fixture
def folder(make_folder):
    return make_folder("in", train=SCORED)


@pytest.fixture
def ids(folder):
    return [row["id"] for row in rows_of(folder)]


@pytest.fixture
def decide(tmp_path, folder):
    """A function that applies decisions to a folder, and returns the manifest."""

    def run(*decisions, name="out", source=folder):
        file = tmp_path / "decisions.jsonl"
        file.write_text("\n".join(json.dumps(decision) for decision in decisions))
        return apply(file, source, output=tmp_path / name)

    return run


def contents(row):
    return tuple(row[name] for name in ("chosen", "rejected", "chosen_score", "rejected_score", "margin"))


def test_each_action_does_what_it_says(decide, ids, tmp_path):
    manifest = decide(
        {"id": ids[0], "action": "drop"},
        {"id": ids[1], "action": "flip", "by": "ann"},
        {"id": ids[2], "action": "edit", "field": "chosen", "text": " surely"},
        {"id": ids[3], "action": "tag", "text": "odd"},
        {"id": ids[3], "action": "keep"},
        {"id": ids[4], "action": "edit", "field": "prompt", "text": "Who?"},
    )
    rows = rows_of(tmp_path / "out")
    assert [contents(row) for row in rows] == [
        (" no", " yes 2", 1.0, 3.0, None),
        (" surely", " no", None, 1.0, None),
        (" yes 4", " no", 3.0, 1.0, 2.0),
        (" yes 5", " no", 3.0, 1.0, None),
        (" yes 6", " no", 3.0, 1.0, 2.0),
    ]
    assert [row["tags"] for row in rows] == [None, None, "keep,odd", None, None]
    assert rows[3]["prompt"] == "Who?"
    assert (manifest.made_by.left_out, manifest.made_by.changed) == ({"dropped": 1}, 3)
    assert [(change.old_id, change.action, change.by) for change in read_changes(tmp_path / "out")] == [
        (ids[1], "flip", "ann"),
        (ids[2], "edit", ""),
        (ids[4], "edit", ""),
    ]
    assert validate(tmp_path / "out").damage == {}  # the new ids and prompt keys are those of the texts


def test_edits_and_a_flip_refer_to_the_pair_as_it_was(decide, ids, tmp_path):
    decide({"id": ids[0], "action": "flip"}, {"id": ids[0], "action": "edit", "field": "chosen", "text": " never"})
    assert contents(rows_of(tmp_path / "out")[0]) == (" no", " never", 1.0, None, None)


def test_a_flip_keeps_the_prompt_key(decide, folder, ids, tmp_path):
    decide({"id": ids[0], "action": "flip"})
    assert rows_of(tmp_path / "out")[0]["prompt_key"] == rows_of(folder)[0]["prompt_key"]


def test_the_last_line_of_one_person_counts(decide, ids, tmp_path):
    decide(
        {"id": ids[0], "action": "drop", "by": "ann"},
        {"id": ids[0], "action": "edit", "field": "chosen", "text": " a", "by": "ann"},
        {"id": ids[0], "action": "edit", "field": "chosen", "text": " b", "by": "ann"},
        {"id": ids[1], "action": "flip", "by": "ann"},
        {"id": ids[1], "action": "keep", "by": "ann"},
    )
    rows = rows_of(tmp_path / "out")
    assert [row["chosen"] for row in rows[:2]] == [" b", " yes 2"]


@pytest.mark.parametrize(
    "theirs",
    [{"action": "drop"}, {"action": "keep"}, {"action": "edit", "field": "chosen", "text": " other"}],
)
def test_persons_who_disagree_are_refused_with_both_lines(decide, ids, theirs):
    mine = {"id": ids[0], "action": "edit", "field": "chosen", "text": " mine", "by": "ann"}
    with pytest.raises(UsageError, match="lines 2 and 4 disagree about"):
        decide({"id": ids[1], "action": "drop"}, mine, {"id": ids[2], "action": "drop"}, {"id": ids[0], **theirs})


def test_persons_who_agree_are_merged(decide, ids, tmp_path):
    decide({"id": ids[0], "action": "flip", "by": "ann"}, {"id": ids[0], "action": "flip", "by": "bob"})
    assert [change.by for change in read_changes(tmp_path / "out")] == ["ann, bob"]


def test_a_decision_holds_for_all_copies(make_folder, decide):
    folder = make_folder("copies", train=[pair(1), pair(2), pair(1)])
    manifest = decide({"id": rows_of(folder)[0]["id"], "action": "drop"}, source=folder)
    assert manifest.made_by.left_out == {"dropped": 2}


def test_a_changed_pair_that_a_check_forbids_is_left_out_by_its_code(decide, ids):
    manifest = decide({"id": ids[0], "action": "edit", "field": "chosen", "text": " no"})
    assert manifest.made_by.left_out == {"identical_responses": 1}
    assert manifest.made_by.changed == 0


def test_an_edited_prompt_that_is_in_test_leaves_train(make_folder, decide):
    folder = make_folder("both", train=[pair(1), pair(2)], test=[pair(3)])
    decision = {"id": rows_of(folder)[0]["id"], "action": "edit", "field": "prompt", "text": "Question 3?"}
    assert decide(decision, source=folder).made_by.left_out == {"prompt_in_test": 1}


def test_ids_that_are_not_there_are_counted_as_applied_or_unknown(decide, ids, tmp_path):
    decisions = [{"id": ids[0], "action": "flip"}, {"id": ids[1], "action": "drop"}, {"id": ids[2], "action": "flip"}]
    decide(*decisions[:2])
    again = decide(*decisions, {"id": "0" * 32, "action": "drop"}, name="again", source=tmp_path / "out")
    assert again.made_by.changed == 1
    assert again.made_by.notes == [
        "2 of 4 ids in the decisions: already_applied.",
        "1 of 4 ids in the decisions: unknown.",
    ]
    with pytest.raises(UsageError, match="none of its 1 ids is in"):
        decide({"id": "0" * 32, "action": "drop"}, name="none")


def test_the_last_message_of_a_conversation_is_edited(make_folder, decide, tmp_path):
    row = {
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    folder = make_folder("chats", train=[row], form="conversational")
    decide({"id": rows_of(folder)[0]["id"], "action": "edit", "field": "prompt", "text": "Hey"}, source=folder)
    assert [m["content"] for m in rows_of(tmp_path / "out")[0]["prompt"]] == ["Be kind.", "Hey"]
    assert validate(tmp_path / "out").damage == {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Invalid JSON"),
        ('{"id": "12", "action": "drop"}', "id: String should match"),
        ('{"id": "%s", "action": "remove"}' % ("0" * 32), "action: Input should be"),
        ('{"id": "%s", "action": "edit", "field": "chosen"}' % ("0" * 32), "an edit needs field and text"),
        ('{"id": "%s", "action": "flip", "text": "x"}' % ("0" * 32), "flip has no text"),
        ('{"id": "%s", "action": "tag", "text": "a,b"}' % ("0" * 32), "a tag needs a text without a comma"),
    ],
)
def test_a_line_that_is_not_a_decision_is_refused_with_its_number(folder, tmp_path, line, message):
    (tmp_path / "d.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=rf"d.jsonl:2: is not a decision: {message}"):
        apply(tmp_path / "d.jsonl", folder, output=tmp_path / "out")


def test_findings_of_validate_are_decisions_to_complete(make_folder, tmp_path, dpo_data):
    folder = make_folder("in", train=[pair(1, chosen=" yes\n\nHuman: what?"), pair(2)])
    findings = tmp_path / "findings.jsonl"
    dpo_data("validate", folder, "--findings", findings)
    with pytest.raises(UsageError, match="no line has an action"):
        apply(findings, folder, output=tmp_path / "out")
    lines = [json.loads(line) | {"action": "drop"} for line in findings.read_text().splitlines()]
    assert [line["code"] for line in lines] == ["role_marker_in_response"]
    findings.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert apply(findings, folder, output=tmp_path / "out").made_by.left_out == {"dropped": 1}


def test_show_appends_decisions(folder, ids, tmp_path, dpo_data):
    file = tmp_path / "decisions.jsonl"
    for words in (("train:0", "--flag", "flip", "--note", "wrong"), ("train:1", "--flag", "tag=odd", "--by", "ann")):
        code, out, _ = dpo_data("show", folder, *words, "--decisions", file)
        assert (code, out.splitlines()[-1]) == (0, f"Decision appended to {file}.")
    assert dpo_data("show", folder, "--find", "Question", "--flag", "drop", "--decisions", file).code == 2
    assert dpo_data("show", folder, "train:0", "--flag", "delete", "--decisions", file).code == 2
    manifest = apply(file, folder, output=tmp_path / "out")
    assert manifest.made_by.changed == 1
    assert [row["tags"] for row in rows_of(tmp_path / "out")[:2]] == [None, "odd"]


def test_personal_data_is_replaced_in_texts_and_kept_columns(make_folder, tmp_path):
    rows = [
        pair(1, chosen=" mail jo@example.org", user="jo@example.org"),
        pair(2, user="ann"),
        pair(3, chosen=" a@example.org", rejected=" b@example.org"),
    ]
    folder = make_folder("in", train=rows, keep=["user"])
    manifest = redact(folder, output=tmp_path / "out")
    assert [(row["chosen"], row["user"]) for row in rows_of(tmp_path / "out")] == [
        (" mail [EMAIL]", "[EMAIL]"),
        (" yes 2", "ann"),
    ]
    assert manifest.made_by.left_out == {"identical_responses": 1}
    assert (manifest.made_by.changed, manifest.redacted) == (1, {"email": 1})
    assert "example.org" not in "".join(p.read_text() for p in (tmp_path / "out").glob("*.json*"))
    assert validate(tmp_path / "out").damage == {}


def test_pairs_that_share_words_with_an_evaluation_set_are_left_out_with_the_evidence(make_folder, tmp_path):
    shared = "what has many keys but cannot open even one single wooden door"
    (tmp_path / "riddles.txt").write_text(f"a short line\nRiddle: {shared}?\n")
    folder = make_folder("in", train=[pair(1), pair(2, chosen=f" {shared}"), pair(3)])
    manifest = decontaminate(folder, output=tmp_path / "out", against=[tmp_path / "riddles.txt"], n=8)
    assert manifest.made_by.left_out == {"contamination": 1}
    (left_out,) = read_left_out(tmp_path / "out")
    assert (left_out.reason, left_out.evidence) == ("contamination", "chosen: riddles.txt:2")
    untouched = decontaminate(folder, output=tmp_path / "all", against=[tmp_path / "riddles.txt"], n=20)
    assert untouched.made_by.left_out == {}
