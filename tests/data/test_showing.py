"""`dpo-data show --run`: the pairs that a trained model disagrees with most."""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data import convert, open_prepared
from dpo_data.cli import main
from dpo_data.errors import InputError, UsageError
from dpo_data.showing import worst_pairs

QUESTIONS = ("How far is it?", "How old are you?", "Who is there?")


@pytest.fixture
def prepared(tmp_path):
    raw = tmp_path / "rows.jsonl"
    rows = [{"prompt": q, "chosen": f"yes {i}", "rejected": f"no {i}"} for i, q in enumerate(QUESTIONS)]
    raw.write_text("\n".join(map(json.dumps, rows)) + "\n")
    convert("pairs", [raw], output=tmp_path / "prepared")
    return tmp_path / "prepared"


@pytest.fixture
def run(tmp_path, prepared):
    """A run that saw the first pair twice, and disagreed with it and with the third in the end."""
    rows = open_prepared(prepared).dataset()["train"]
    measured = [(0, 1, 0.5), (1, 1, 2.0), (2, 2, -0.25), (0, 3, -1.5)]
    columns = {
        "split": ["train"] * len(measured),
        "id": [rows["id"][row] for row, _, _ in measured],
        "origin": [rows["origin"][row] for row, _, _ in measured],
        "step": [step for _, step, _ in measured],
        "margin": [margin for _, _, margin in measured],
    }
    (tmp_path / "run").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "run" / "pairs.parquet")
    return tmp_path / "run"


def test_the_pairs_with_the_lowest_last_margin_come_first(prepared, run):
    pairs = worst_pairs(prepared, run, count=2)
    assert [(pair.prompt, pair.margin, pair.step) for pair in pairs] == [
        ("How far is it?", -1.5, 3),
        ("Who is there?", -0.25, 2),
    ]
    assert pairs[0].origin.endswith("rows.jsonl:1")
    assert (pairs[0].chosen, pairs[0].rejected) == ("yes 0", "no 0")


def test_a_run_on_other_data_is_refused(prepared, run, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "What else is there?", "chosen": "a", "rejected": "b"}\n')
    convert("pairs", [other], output=tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="was trained on other data"):
        worst_pairs(tmp_path / "elsewhere", run)


def test_a_folder_that_is_no_run_is_refused(prepared, tmp_path):
    with pytest.raises(InputError, match=r"pairs\.parquet: there is no such file"):
        worst_pairs(prepared, tmp_path)


def test_a_damaged_file_of_pairs_is_refused(prepared, run):
    (run / "pairs.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match="cannot be read"):
        worst_pairs(prepared, run)


def test_a_file_of_pairs_without_margins_is_refused(prepared, run):
    pq.write_table(pa.table({"id": ["a"]}), run / "pairs.parquet")
    with pytest.raises(InputError, match="has no column split, origin, step, margin; it has id"):
        worst_pairs(prepared, run)


def test_the_command_prints_them_side_by_side(prepared, run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dpo-data", "show", str(prepared), "--run", str(run), "--worst", "1"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("1. margin -1.500   train, step 3")
    assert lines[1:] == [
        "How far is it?",
        "chosen  rejected",
        "yes 0   no 0",
        "1 of these 1 pairs have a negative margin: the model prefers rejected.",
    ]


def test_json_is_all_there_is_on_standard_output(prepared, run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dpo-data", "show", str(prepared), "--run", str(run), "--json"])
    with pytest.raises(SystemExit):
        main()
    assert [pair["margin"] for pair in json.loads(capsys.readouterr().out)] == [-1.5, -0.25, 2.0]
