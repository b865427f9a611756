"""two-answers: what each label means, that an unknown one is never guessed, and what --label-map takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared
from dpo_data.cli.options import parse_label_map
from dpo_data.errors import InputError, RowError, UsageError
from dpo_data.prepared.manifest import Manifest
from dpo_data.records import ScoredResponses
from dpo_data.sources.labels import named_verdict
from dpo_data.sources.source import SourceOptions
from dpo_data.sources.two_answers import adapt, answer_columns


def better(row: dict[str, Any], **labels: str) -> str:
    """Return the name of the better answer of a row whose answers are "one" and "two", "tie", or why it is left out."""
    scored = adapt(row, SourceOptions(labels=labels))
    assert isinstance(scored, ScoredResponses)
    reasons = {response.reason for response in scored.responses if response.sort_score is None}
    if reasons:
        return str(reasons.pop())
    ranked = sorted(scored.responses, key=lambda response: response.sort_score or 0.0)
    if ranked[0].sort_score == ranked[1].sort_score:
        return "tie"
    content = ranked[-1].content
    return content if isinstance(content, str) else content[-1].content


def dialogue(answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Q"}, {"role": "assistant", "content": answer}]


def studio(*selected: str) -> dict[str, Any]:
    """Return a task of Label Studio with one annotation for each selected side."""
    annotations = [{"result": [{"type": "pairwise", "value": {"selected": side}}]} for side in selected]
    return {"data": {"prompt": "Q", "answer1": "one", "answer2": "two"}, "annotations": annotations}


ALPACA = {"instruction": "Q", "output_1": "one", "output_2": "two"}
ARENA = {"conversation_a": dialogue("one"), "conversation_b": dialogue("two"), "language": "en"}
LETTERS = {"prompt": "Q", "response_a": "one", "response_b": "two"}
ONE_HOT = LETTERS | {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 0}
PANDALM = {"instruction": "Q", "response1": "one", "response2": "two"}
ARGILLA = {"fields": {"prompt": "Q", "response-1": "one", "response-2": "two"}, "suggestions": {}}


def judges(*labels: int) -> dict[str, int]:
    return {f"annotator{n}": label for n, label in enumerate(labels, 1)}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # The direction of each table that is known, both ways, and its ties.
        (ONE_HOT | {"winner_model_a": 1}, "one"),
        (ONE_HOT | {"winner_model_b": "1"}, "two"),
        (ONE_HOT | {"winner_tie": True}, "tie"),
        (ONE_HOT, "no_label"),
        (ALPACA | {"preference": 1}, "one"),
        (ALPACA | {"preference": 2}, "two"),
        (ALPACA | {"preference": 2.0}, "two"),
        (ALPACA | {"preference": 1.01}, "one"),
        (ALPACA | {"preference": 1.99}, "two"),
        (ALPACA | {"preference": 1.5}, "tie"),
        (ALPACA | {"preference": 0}, "tie"),
        (ALPACA | {"preference": None}, "no_label"),
        ({"input": "Q", "output_1": "one", "output_2": "two", "label": 1}, "one"),
        ({"input": "Q", "output_1": "one", "output_2": "two", "label": 2}, "two"),
        ({"question": "Q", "response_A": "one", "response_B": "two", "label": "A>B"}, "one"),
        ({"question": "Q", "response_A": "one", "response_B": "two", "label": "B>A"}, "two"),
        ({"prompt": "Q", "response 1": "one", "response 2": "two", "label": 0}, "one"),
        ({"prompt": "Q", "response 1": "one", "response 2": "two", "label": 1}, "two"),
        ({"prompt": "Q", "response 1": "one", "response 2": "two", "label": 2}, "tie"),
        (PANDALM | judges(1, 1, 0), "one"),
        (PANDALM | judges(2, 1, 2), "two"),
        (PANDALM | judges(0, 0, 2), "tie"),
        (PANDALM | judges(0, 1, 2), "no_majority"),
        (ARENA | {"winner": "model_a"}, "one"),
        (ARENA | {"winner": "model_b"}, "two"),
        (ARENA | {"winner": "tie"}, "tie"),
        (ARENA | {"winner": "both_bad"}, "both_bad"),
        (ARENA | {"winner": "tie (bothbad)"}, "both_bad"),
        (studio("left"), "one"),
        (studio("right"), "two"),
        (studio("right", "left", "right"), "two"),
        (studio("right", "left"), "no_majority"),
        (studio(), "no_label"),
        (ARGILLA | {"responses": {"best": [{"value": "response-1"}]}}, "one"),
        (ARGILLA | {"responses": {"best": [{"value": "response-2"}]}}, "two"),
        (ARGILLA["fields"] | {"best.responses": ["response-2"], "best.responses.users": ["u"]}, "two"),
        (ARGILLA["fields"] | {"best.responses": ["response-2"], "best.responses.status": ["draft"]}, "no_label"),
        (ARGILLA["fields"] | {"better": [{"value": "response-1", "user_id": "u", "status": "submitted"}]}, "one"),
        (ARGILLA["fields"] | {"rank.responses": [["response-2", "response-1"]]}, "two"),
        (ARGILLA | {"responses": {"rank": [{"value": ["response-2", "response-1"]}]}}, "two"),
        # Labels that name an answer.
        (LETTERS | {"winner": "A"}, "one"),
        (LETTERS | {"winner": "b"}, "two"),
        (LETTERS | {"preferred": "response_b"}, "two"),
        (LETTERS | {"better": "Model A"}, "one"),
        (LETTERS | {"winner": "Tie"}, "tie"),
        (LETTERS | {"winner": "neither"}, "both_bad"),
        (LETTERS | {"winner": ""}, "no_label"),
        ({"question": "Q", "left": "one", "right": "two", "winner": "right"}, "two"),
        ({"question": "Q", "answer_1": "one", "answer_2": "two", "winner": "answer_1"}, "one"),
    ],
)
def test_a_known_label_prefers_the_answer_that_its_project_says(row: dict[str, Any], expected: str) -> None:
    assert better(row) == expected


@pytest.mark.parametrize(
    "row",
    [
        LETTERS | {"label": "A"},  # "label" may be the worse one
        LETTERS | {"winner": "C"},
        LETTERS | {"winner": 1},
        {"question": "Q", "response_1": "one", "response_2": "two", "winner": 1},
        {"question": "Q", "response_1": "one", "response_2": "two", "label": 0},
        {"question": "Q", "response_1": "one", "response_2": "two", "preference": 1},
        ALPACA | {"preference": 3},
        PANDALM | judges(1, 1, 3),
        studio("middle"),
        ARGILLA | {"responses": {"which-is-worse": [{"value": "response-1"}]}},
    ],
)
def test_an_unknown_label_is_never_guessed(row: dict[str, Any]) -> None:
    with pytest.raises(RowError) as caught:
        better(row)
    assert caught.value.code == "unknown_label"


def test_a_label_map_decides_alone(tmp_path: Path) -> None:
    row = {"question": "Q", "response_1": "one", "response_2": "two", "label": 0}
    labels = {"0": "b", "1": "a", "2": "tie", "x": "skip"}
    assert [better(row | {"label": value}, **labels) for value in (0, 1.0, "2", "X")] == [
        "two",
        "one",
        "tie",
        "skipped",
    ]
    assert better(ALPACA | {"preference": 1}, **{"1": "b"}) == "two"  # against what the project says
    with pytest.raises(RowError, match="whose meaning is not known"):
        better(ALPACA | {"preference": 2}, **{"1": "b"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["1=a", "2=b"], {"1": "a", "2": "b"}),
        (["a=A", "tie=both good"], {"A": "a", "both good": "tie"}),
        (["A=B=tie", "A>B=a"], {"A=B": "tie", "A>B": "a"}),
        (["tie=A=B"], {"A=B": "tie"}),
        (["a=a", "b=b"], {"a": "a", "b": "b"}),
        (["a=1", "a=yes"], {"1": "a", "yes": "a"}),
    ],
)
def test_an_entry_of_a_label_map_has_the_label_or_the_side_first(words: list[str], expected: dict[str, str]) -> None:
    assert parse_label_map(words) == expected


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ({"1": "first"}, "label_map=1=first: must be VALUE=a|b|tie|skip"),
        ({"a": "b"}, "label_map=a=b: both words name a side"),
    ],
)
def test_an_entry_that_names_no_side_or_two_is_refused(label_map: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        convert("two-answers", ["x.jsonl"], output=tmp_path / "out", label_map=label_map)
    assert message in str(caught.value)
    with pytest.raises(UsageError, match="is given twice"):
        parse_label_map(["1=a", "1=b"])
    with pytest.raises(UsageError, match="does not apply to nectar"):
        convert("nectar", ["x.jsonl"], output=tmp_path / "out", label_map={"1": "a"})


def converted(rows: list[dict[str, Any]], folder: Path, **options: Any) -> tuple[Manifest, list[tuple[Any, ...]]]:
    raw = folder / "raw.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    manifest = convert("two-answers", [raw], output=folder / "out", form="text", max_invalid=1, **options)
    batches = open_prepared(folder / "out").batches("train") if manifest.pairs else []
    return manifest, [(r["prompt"], r["chosen"], r["rejected"]) for batch in batches for r in batch.to_pylist()]


def test_mapped_columns_and_labels_of_any_table(tmp_path: Path) -> None:
    rows = [{"frage": f"Q{n}", "x": f"one {n}", "y": f"two {n}", "urteil": n, "note": "-"} for n in range(4)]
    mapping = {"prompt": "frage", "a": "x", "b": "y", "label": "urteil"}
    labels = {"0": "a", "1": "b", "2": "tie", "3": "skip"}
    manifest, pairs = converted(rows, tmp_path, mapping=mapping, label_map=labels)
    assert pairs == [("Q0", "one 0", "two 0"), ("Q1", "two 1", "one 1")]
    assert manifest.left_out_by_reason == {"skipped": 1, "tie": 1}
    assert manifest.options.label_map == labels
    assert manifest.unused_columns == {"note": 4}


def test_a_file_whose_labels_are_unknown_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    rows = [{"question": "Q", "response_1": "one", "response_2": "two", "label": 1}]
    with pytest.raises(InputError) as caught:
        converted(rows, tmp_path)
    assert "label is '1', whose meaning is not known." in str(caught.value)
    assert "Say which answer each value of label prefers: label_map=VALUE=a|b|tie|skip." in str(caught.value)
    with pytest.raises(InputError, match="a row needs a prompt, two answers and a label"):
        converted([{"question": "Q", "reply": "one"}], tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_stray_label_goes_to_quarantine_with_the_way_to_say_what_it_means(tmp_path: Path) -> None:
    rows = [LETTERS | {"winner": winner} for winner in ("A", "C")]
    manifest, _ = converted(rows, tmp_path)
    assert (manifest.pairs, manifest.quarantined_by_code) == (1, {"unknown_label": 1})
    row = json.loads((tmp_path / "out" / "quarantine" / "train.jsonl").read_text())
    assert row["hint"] == "Say what the label means: --label-map VALUE=a|b|tie|skip."


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("prompt", "response_a", "response_b"), ("response_a", "response_b")),
        (("a", "b"), ("a", "b")),
        (("Answer A", "Answer B"), ("Answer A", "Answer B")),
        (("model_a", "model_b"), None),
        (("score_1", "score_2", "text_1", "text_2"), ("text_1", "text_2")),
        (("response_0", "response_1"), ("response_0", "response_1")),
        (("response_1", "response_2", "response_3"), None),
        (("response_a", "response_b", "response_c"), None),
        (("data", "datb"), None),
    ],
)
def test_two_columns_that_differ_in_their_endings_are_the_answers(
    columns: tuple[str, ...], expected: tuple[str, str] | None
) -> None:
    assert answer_columns(dict.fromkeys(columns, "text")) == expected


@pytest.mark.parametrize("label", ["1", "2", "0", "first", "winner", "AB", "ab", "A or B", "model", "-1"])
def test_a_label_that_names_no_answer_has_no_verdict(label: str) -> None:
    assert named_verdict(label, "response_a", "response_b") is None
    assert named_verdict(label, "response_1", "response_2") is None


def test_mixed_dialogues_and_texts_become_messages(tmp_path: Path) -> None:
    prompt = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Q"},
    ]
    row = {"prompt": prompt, "response_a": "one", "response_b": "two", "winner": "A", "system": "Be brief."}
    scored = adapt(row, SourceOptions())
    assert isinstance(scored, ScoredResponses)
    assert [message.role for message in scored.prompt] == ["system", "user", "assistant", "user"]
    assert [message.content for message in scored.responses[0].content] == ["one"]
