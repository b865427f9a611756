"""Detection of sources: the source that matches, what convert does with the first rows, or a command to complete."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from golden import FIXTURES, GOLDEN_SOURCES
from typer.testing import CliRunner

from dpo_data import SOURCES, convert
from dpo_data.cli.app import app
from dpo_data.conversion.detect import sniff
from dpo_data.errors import InputError
from dpo_data.prepared.manifest import Manifest
from dpo_data.prepared.reader import read_manifest
from dpo_data.sources import load_source


def written(path: Path, row: dict[str, Any]) -> Path:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("source", GOLDEN_SOURCES)
def test_golden_rows_are_detected_as_their_source(source: str) -> None:
    found = sniff(str(FIXTURES / source / "raw.jsonl"))
    assert found.source == source
    assert found.complete
    counts = found.counts
    assert counts.pairs >= 2
    assert counts.rows_read == counts.rows_paired + counts.quarantined + counts.left_out
    assert set(found.example) == {"origin", "prompt", "chosen", "rejected"}


@pytest.mark.parametrize("source", GOLDEN_SOURCES)
def test_the_command_gives_the_counts_that_were_shown(source: str, tmp_path: Path) -> None:
    found = sniff(str(FIXTURES / source / "raw.jsonl"))
    words = shlex.split(found.command)
    assert words[:3] == ["dpo-data", "convert", source]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    arguments = {name: options[f"--{name}"] for name in ("form", "axis") if f"--{name}" in options}
    manifest = convert(source, [options["--input"]], output=tmp_path / "out", max_invalid=1, **arguments)
    assert (manifest.pairs, manifest.quarantined) == (found.counts.pairs, found.counts.quarantined)


def test_a_table_that_only_pairs_matches_is_pairs(tmp_path: Path) -> None:
    found = sniff(str(written(tmp_path / "a.jsonl", {"prompt": "Q", "chosen": "a", "rejected": "b"})))
    assert (found.source, found.others, found.counts.pairs) == ("pairs", [], 1)


@pytest.mark.parametrize(
    ("row", "command", "complete"),
    [
        (
            {"Question": "Q", "good": "a", "bad": "b", "id": 1},
            "convert pairs --input FILE --map prompt=Question --map chosen=good --map rejected=bad "
            "--form conversational --output prepared/",
            True,
        ),
        (
            {"Question": "Q", "first": "a", "second": "b"},
            "convert pairs --input FILE --map prompt=Question --map chosen=CHOSEN_COLUMN "
            "--map rejected=REJECTED_COLUMN --output prepared/",
            False,
        ),
        (
            {"question": "Q", "candidates": ["a", "b"], "rewards": [1, 2]},
            "convert ranked --input FILE --map prompt=question --map responses=candidates --map scores=rewards "
            "--form conversational --output prepared/",
            True,
        ),
    ],
)
def test_an_unknown_table_gets_a_command_to_complete(row, command, complete, tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", row)
    found = sniff(str(path))
    assert found.source is None
    assert found.columns == list(row)
    assert found.command.replace(str(path), "FILE") == f"dpo-data {command}"
    assert found.complete is complete


def test_a_command_without_missing_columns_can_run(tmp_path: Path) -> None:
    row = {"question": "Q", "candidates": ["worse", "better"], "rewards": [1, 2]}
    words = shlex.split(sniff(str(written(tmp_path / "rows.jsonl", row))).command)
    mapping = dict(word.split("=") for word in words if "=" in word)
    manifest = convert("ranked", [tmp_path / "rows.jsonl"], output=tmp_path / "out", mapping=mapping)
    assert manifest.pairs == 1


def test_a_file_without_a_readable_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{broken\n[1]\n")
    with pytest.raises(InputError, match="none of its rows can be read"):
        sniff(str(path))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "junk", [{}, {"chosen": 1, "rejected": None}, {"answers": 3, "prompt": []}, {"completions": {}}]
)
def test_no_row_breaks_the_detection(source: str, junk: dict[str, Any]) -> None:
    whole = dict.fromkeys(load_source(source).columns, 7)
    for row in (junk, whole, whole | junk):
        assert load_source(source).matches(row, {}) in (True, False)


# Many rows, several candidates, labels.


def written_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(command: str, folder: Path) -> tuple[int, Manifest | None]:
    """Run a printed command with another output folder; return its exit code and the manifest."""
    words = shlex.split(command)
    assert words[0] == "dpo-data"
    assert words[-2:] == ["--output", "prepared/"]
    arguments = [*words[1:-1], str(folder / "out"), "--workers", "1", "--max-invalid", "100%"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, read_manifest(folder / "out") if (folder / "out" / "manifest.json").exists() else None


CASES = [path for path in sorted((FIXTURES.parent / "cases").rglob("*")) if path.is_file()]
FILES = [*CASES, *(FIXTURES / source / "raw.jsonl" for source in GOLDEN_SOURCES)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FIXTURES.parent)))
def test_every_complete_command_that_is_printed_works(path: Path, tmp_path: Path) -> None:
    found = sniff(path)
    for n, candidate in enumerate([found, *found.candidates]):
        if candidate.complete:
            folder = tmp_path / str(n)
            folder.mkdir()
            code, manifest = run(candidate.command, folder)
            assert code == 0
            assert manifest is not None
            assert manifest.pairs == candidate.counts.pairs


def test_a_row_that_leaves_out_its_nulls_does_not_hide_the_source(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "chosen": "a", "rejected": "b"}] * 3
    rows = [{"question_id": "1"}, {"winner": None}, *rows]
    found = sniff(written_rows(tmp_path / "r.jsonl", rows))
    assert (found.source, found.counts.pairs, found.counts.quarantined) == ("pairs", 3, 2)
    assert found.columns == ["question_id", "winner", "prompt", "chosen", "rejected"]


def test_more_than_the_first_chunk_of_rows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 500)
    rows = [{"prompt": f"Q {n}", "chosen": "a b", "rejected": "c d"} for n in range(60)]
    assert sniff(written_rows(tmp_path / "r.jsonl", rows)).counts.rows_read > 30


def test_several_candidates_come_best_first(tmp_path: Path) -> None:
    found = sniff(FIXTURES / "pku-saferlhf" / "raw.jsonl")
    assert "--axis better" in found.command
    assert ["--axis safer" in candidate.command for candidate in found.candidates] == [True]
    arena = sniff(FIXTURES / "chatbot-arena" / "raw.jsonl")
    assert [candidate.source for candidate in arena.candidates] == ["two-answers"]


LETTERS = {"question": "What is it?", "answer_a": "It is this.", "answer_b": "It is that."}


@pytest.mark.parametrize(
    ("rows", "command"),
    [
        (
            [LETTERS | {"verdict": 1}, LETTERS | {"verdict": 0}, LETTERS | {"verdict": 1}],
            "convert two-answers --input FILE --map prompt=question --map a=answer_a --map b=answer_b "
            "--map label=verdict --label-map '0=a|b|tie|skip' --label-map '1=a|b|tie|skip' --form conversational "
            "--output prepared/",
        ),
        (
            [LETTERS | {"chosen": "A"}, LETTERS | {"chosen": "B"}],
            "convert two-answers --input FILE --map prompt=question --map a=answer_a --map b=answer_b "
            "--map label=chosen --label-map 'A=a|b|tie|skip' --label-map 'B=a|b|tie|skip' --form conversational "
            "--output prepared/",
        ),
    ],
)
def test_labels_whose_meaning_is_unknown_are_left_to_the_user(rows, command, tmp_path: Path) -> None:
    path = written_rows(tmp_path / "rows.jsonl", rows)
    found = sniff(path)
    assert found.source is None
    assert not found.complete
    assert found.command.replace(str(path), "FILE") == f"dpo-data {command}"
    completed = found.command.replace("0=a|b|tie|skip", "0=b").replace("1=a|b|tie|skip", "1=a")
    completed = completed.replace("A=a|b|tie|skip", "A=a").replace("B=a|b|tie|skip", "B=b")
    code, manifest = run(completed, tmp_path)
    assert code == 0
    assert manifest is not None
    assert manifest.pairs == len(rows)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "gpt_answer": "It is this.", "llama_answer": "It is that.", "winner": "gpt"},
        {"prompt": "Q?", "completion": "It is this.", "good": True, "bad": False},
        {"prompt": "Q?", "model": "m", "preferred": "left", "rejected": "right"},
        {"question": "Q?", "first": "It is this.", "second": "It is that.", "better": 2},
        {"prompt": "Q?", "response_a": "It is this.", "response_b": "It is that.", "chosen": 0, "rejected": 1},
    ],
)
def test_a_label_is_never_proposed_as_a_text(row: dict[str, Any], tmp_path: Path) -> None:
    found = sniff(written_rows(tmp_path / "rows.jsonl", [row, row]))
    labels = {name for name, value in row.items() if not isinstance(value, str) or " " not in value} - {"prompt"}
    for command in (found.command, *(candidate.command for candidate in found.candidates)):
        mapping = dict(word.split("=", 1) for word in shlex.split(command) if "=" in word and "|" not in word)
        assert not {mapping.get(name) for name in ("chosen", "rejected", "a", "b")} & labels
        assert "convert pairs" not in command or {"chosen", "rejected"} <= set(mapping)


def test_names_that_differ_in_one_word_are_the_two_sides(tmp_path: Path) -> None:
    row = {"question": "Why?", "answer_chosen": "So.", "answer_rejected": "No.", "score_chosen": 2, "score_rejected": 1}
    path = written_rows(tmp_path / "rows.jsonl", [row])
    found = sniff(path)
    assert "--map chosen=answer_chosen --map rejected=answer_rejected" in found.command
    assert (found.complete, found.counts.pairs) == (True, 1)


def test_responses_with_their_scores_inside_are_found(tmp_path: Path) -> None:
    row = {"question": "Why?", "candidates": [{"text": "So.", "rank": 1}, {"text": "No.", "rank": 2}]}
    found = sniff(written_rows(tmp_path / "rows.jsonl", [row]))
    assert "--map responses=candidates.text --map ranks=candidates.rank" in found.command
    assert (found.complete, found.counts.pairs) == (True, 1)


def test_a_given_format_is_part_of_the_command(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_text('{"prompt": "Q?", "chosen": "It is this.", "rejected": "It is that."}\n')
    found = sniff(path, input_format="jsonl")
    assert "--input-format jsonl" in found.command
    assert run(found.command, tmp_path)[0] == 0
