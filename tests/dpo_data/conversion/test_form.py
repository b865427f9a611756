"""--form auto: the first rows of tables of one's own decide whether strings are one text or turns of a dialogue."""

import sys
from pathlib import Path
from typing import Any

import pytest

from dpo_data import convert, open_prepared, validate
from dpo_data.conversion.first_rows import detect_form
from dpo_data.options import FIRST_ROWS
from dpo_data.sources import load_source

PLAIN = {"prompt": "How should I keep bread fresh?", "chosen": "Wrap it in a cloth.", "rejected": "Put it in water."}
ONE_TEXT = {"prompt": "A post.\n\nTL;DR:", "chosen": " Short.", "rejected": " Long."}
TALK = {
    "prompt": [{"role": "user", "content": "Hi"}],
    "chosen": [{"role": "assistant", "content": "Hello"}],
    "rejected": [{"role": "assistant", "content": "Go"}],
}


def form(source: str, *rows: dict[str, Any], **mapping: str) -> str:
    return detect_form(load_source(source), rows, mapping).form


def first_pair(folder: Path) -> dict[str, Any]:
    return next(open_prepared(folder).batches("train")).to_pylist()[0]


def test_plain_strings_become_messages_and_the_reason_is_recorded(tmp_path, write_rows):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", [PLAIN] * 3), output=tmp_path / "out")
    assert manifest.form == "conversational"
    assert manifest.form_reason == (
        "each string is a turn: 0 of the first 3 rows have white space or a marker between prompt and response"
    )
    row = first_pair(tmp_path / "out")
    assert [(m["role"], m["content"]) for name in ("prompt", "chosen", "rejected") for m in row[name]] == [
        ("user", "How should I keep bread fresh?"),
        ("assistant", "Wrap it in a cloth."),
        ("assistant", "Put it in water."),
    ]


def test_parts_of_one_text_stay_text(tmp_path, write_rows):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", [ONE_TEXT]), output=tmp_path / "out")
    assert (manifest.form, manifest.form_reason) == (
        "text",
        "each pair is one text: 1 of the first 1 row has white space or a marker between prompt and response",
    )
    assert first_pair(tmp_path / "out")["prompt"] == ONE_TEXT["prompt"]


def test_a_given_form_overrides_and_has_no_reason(tmp_path, write_rows):
    for given, row in (("text", PLAIN), ("conversational", ONE_TEXT)):
        raw = write_rows(tmp_path / f"{given}.jsonl", [row])
        manifest = convert("pairs", raw, output=tmp_path / given, form=given)
        assert (manifest.form, manifest.form_reason) == (given, None)


def test_named_sources_stay_text(tmp_path):
    manifest = convert("hh-rlhf", sample=True, output=tmp_path / "out")
    assert (manifest.form, manifest.form_reason) == ("text", None)


def test_half_of_the_rows_decide():
    assert form("pairs", ONE_TEXT, PLAIN) == "text"
    assert form("pairs", ONE_TEXT, PLAIN, PLAIN) == "conversational"


def test_both_responses_must_be_parts_of_the_text():
    assert form("pairs", PLAIN | {"rejected": " Put it in water."}) == "conversational"


def test_rows_that_say_nothing_do_not_count():
    nothing = [{"prompt": "Hi"}, {"prompt": "", "chosen": "a", "rejected": "b"}, {"chosen": "a", "rejected": "b"}]
    assert form("pairs", *nothing, ONE_TEXT) == "text"
    assert form("pairs", *nothing, PLAIN) == "conversational"
    assert detect_form(load_source("pairs"), nothing, {}) == ("text", "none of the first 1,000 rows holds texts")


def test_messages_are_conversational():
    assert form("pairs", ONE_TEXT, TALK) == "conversational"
    assert form("ranked", {"prompt": "Hi", "responses": [TALK["chosen"], TALK["rejected"]]}) == "conversational"


def test_transcripts_without_a_prompt_are_text():
    transcripts = {"chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: no"}
    assert form("pairs", transcripts) == "text"


def test_mapped_columns_decide():
    row = {"q": "Hi?", "good": "Yes", "bad": "No", "prompt": "Hi\n", "chosen": "Yes", "rejected": "No"}
    assert form("pairs", row, prompt="q", chosen="good", rejected="bad") == "conversational"
    assert form("pairs", row) == "text"


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("ranked", [{"prompt": "Hi?", "responses": ["Yes", "No"], "scores": [2, 1]}]),
        ("kto", [{"prompt": "Hi?", "completion": text, "label": text == "Yes"} for text in ("Yes", "No")]),
    ],
)
def test_other_sources_of_any_table_look_at_their_rows_too(tmp_path, write_rows, source, rows):
    manifest = convert(source, write_rows(tmp_path / "a.jsonl", rows), output=tmp_path / "out")
    assert (manifest.form, manifest.pairs) == ("conversational", 1)
    assert first_pair(tmp_path / "out")["chosen"] == [{"role": "assistant", "content": "Yes"}]


def test_only_the_first_rows_of_the_first_file_decide(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 10_000)
    first = write_rows(tmp_path / "a.jsonl", [PLAIN] * FIRST_ROWS + [ONE_TEXT] * 3000)
    second = write_rows(tmp_path / "b.jsonl", [ONE_TEXT] * 10)
    manifest = convert("pairs", [first, second], output=tmp_path / "out")
    assert manifest.form == "conversational"
    assert [entry.rows for entry in manifest.inputs] == [FIRST_ROWS + 3000, 10]  # no row is read twice, none is lost


def test_standard_input_is_read_once(tmp_path, write_rows, monkeypatch):
    with write_rows(tmp_path / "a.jsonl", [PLAIN] * 1500).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        manifest = convert("pairs", "-", input_format="jsonl", output=tmp_path / "out")
    assert (manifest.form, manifest.rows_read) == ("conversational", 1500)


def test_any_number_of_workers_writes_the_same_pairs(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 20_000)
    raw = write_rows(tmp_path / "a.jsonl", [PLAIN | {"prompt": f"Question {n}?"} for n in range(4000)])
    one, two = (convert("pairs", raw, output=tmp_path / str(n), workers=n) for n in (1, 2))
    assert one == two


def test_validate_detects_the_form_of_raw_pairs_too(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [PLAIN])
    assert validate(raw).form == "conversational"
    report = validate(raw, form="text")
    assert (report.form, list(report.findings)) == ("text", ["glued_text"])


def test_glued_texts_are_counted_in_text_form(tmp_path, write_rows):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", [PLAIN, ONE_TEXT]), output=tmp_path / "out")
    assert manifest.warnings["glued_text"].examples == [
        f'{tmp_path.name}/a.jsonl:1: chosen follows the prompt without white space: "'
        '…  I keep bread fresh?Wrap it in a cloth.".'
    ]
    assert manifest.warnings["glued_text"].rows == 1
