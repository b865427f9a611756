"""Detection of sources: the source that matches, what convert does with the first rows, or a command to complete."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from golden import FIXTURES, GOLDEN_SOURCES

from dpo_data import SOURCES, convert
from dpo_data.conversion.detect import sniff
from dpo_data.errors import InputError
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
            "convert pairs --input FILE --map prompt=Question --map chosen=good --map rejected=bad --output prepared/",
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
            "--output prepared/",
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
