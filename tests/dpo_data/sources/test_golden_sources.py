"""Every source converts its golden rows to exactly the expected pairs and accounts for all other rows."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from golden import FILES, FIXTURES, GOLDEN_SOURCES, convert_golden, expected_rows, outcome, read_lines

from dpo_data import SOURCES
from dpo_data.options import Form
from dpo_data.sources import load_source

#: Golden responses begin with the judgment of their dataset; other rows do not matter.
WORDS = ("Worst", "Middle", "Best")


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_has_golden_rows(source: str) -> None:
    missing = [file for file in FILES if not (FIXTURES / source / file).is_file()]
    assert not missing, (
        f"tests/fixtures/sources/{source}/ has no {' and no '.join(missing)}. "
        f"Write raw.jsonl by hand, then run: python tests/new_source.py {source}"
    )


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("source", GOLDEN_SOURCES)
def test_golden_rows_come_out_as_expected(source: str, form: Form, tmp_path: Path) -> None:
    expected = [row for row in read_lines(FIXTURES / source / "expected.jsonl") if row.pop("form") == form]
    manifest = convert_golden(source, tmp_path / "out", form)
    assert outcome(tmp_path / "out", manifest) == expected


@pytest.mark.parametrize("source", GOLDEN_SOURCES)
def test_every_golden_row_is_accounted_for(source: str, tmp_path: Path) -> None:
    manifest = convert_golden(source, tmp_path / "out", "text")
    rows = (FIXTURES / source / "raw.jsonl").read_text(encoding="utf-8").count("\n")
    assert manifest.rows_read == rows == manifest.rows_paired + manifest.quarantined + manifest.left_out
    assert manifest.left_out == sum(manifest.left_out_by_reason.values())


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("source", [name for name in GOLDEN_SOURCES if not load_source(name).comes_in_pairs])
def test_the_better_response_is_chosen_under_every_policy(source: str, form: Form, tmp_path: Path) -> None:
    seen = Counter[str]()
    for pairing in ("best-worst", "best-rest", "all", "adjacent", "random"):
        folder = tmp_path / pairing
        for row in outcome(folder, convert_golden(source, folder, form, pairing=pairing)):
            if "chosen" in row:
                chosen, rejected = (WORDS.index(first_word(row[side])) for side in ("chosen", "rejected"))
                assert chosen > rejected, row
                seen[pairing] += 1
    assert min(seen.values()) >= 2
    assert len(seen) == 5


def first_word(side: str | list[dict[str, str]]) -> str:
    """Return the word that a golden response begins with; a tool call counts as the best response."""
    if isinstance(side, list) and side[-1].get("tool_calls"):
        return "Best"
    text = side if isinstance(side, str) else side[-1]["content"]
    return text.strip().partition(":")[0]


def test_new_source_gives_the_committed_rows(tmp_path: Path) -> None:
    assert expected_rows("nectar", tmp_path) == read_lines(FIXTURES / "nectar" / "expected.jsonl")


def test_new_source_asks_for_raw_rows_first() -> None:
    script = Path(__file__).parents[2] / "new_source.py"
    done = subprocess.run([sys.executable, script, "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nothing/raw.jsonl: there is no such file." in done.stderr
