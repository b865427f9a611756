"""dpo-data sources, sniff, and convert's pairing options on the command line."""

import json
import shlex
from pathlib import Path

from golden import FIXTURES
from typer.testing import CliRunner

from dpo_data import SOURCES
from dpo_data.cli.app import app
from dpo_data.prepared.reader import read_manifest


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return result.exit_code, result.stdout


def test_sources_lists_every_source_with_its_preference_rule() -> None:
    code, text = run("sources")
    assert code == 0
    assert all(name in text for name in SOURCES)
    assert "mt-bench-judgments (evaluation only)" in text
    entries = json.loads(run("sources", "--json")[1])
    assert [entry["name"] for entry in entries] == list(SOURCES)
    assert entries[list(SOURCES).index("nectar")]["direction"] == "the lower rank; rank 1 is the best"


def test_sniff_names_the_source_and_prints_the_command(tmp_path: Path) -> None:
    raw = FIXTURES / "pku-saferlhf" / "raw.jsonl"
    code, text = run("sniff", raw)
    assert code == 0
    assert f"{raw}: pku-saferlhf. Preference rule: the response that better_response_id" in text.replace("\n", " ")
    assert "Of the first 4 rows 2 give 2 pairs, 2 go to quarantine, 0 are left out." in text
    assert json.loads(run("sniff", raw, "--json")[1])["source"] == "pku-saferlhf"


def test_sniff_exits_with_1_and_prints_a_command_to_complete_if_no_source_matches(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("question,first,second\nQ,a,b\n")
    code, text = run("sniff", path)
    assert code == 1
    assert "no source fits. It has: question, first, second." in text
    assert text.splitlines()[-1] == (
        f"dpo-data convert pairs --input {path} --map prompt=question --map chosen=CHOSEN_COLUMN "
        "--map rejected=REJECTED_COLUMN --output prepared/"
    )


def test_sniff_prints_a_command_that_reads_the_file_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("prompt#chosen#rejected\nQ 1?#voil\u00e0 \u2013 \u20ac#no\nQ 2?#oui#non\n".encode("cp1252"))
    code, text = run("sniff", path, "--input-format", "csv", "--encoding", "cp1252", "--delimiter", "#")
    assert code == 0
    command = shlex.split(text.splitlines()[-1])
    assert command[:11] == [
        *("dpo-data", "convert", "pairs", "--input", str(path)),
        *("--input-format", "csv", "--encoding", "cp1252", "--delimiter", "#"),
    ]
    code, _ = run(*command[1:-1], tmp_path / "out")
    assert (code, read_manifest(tmp_path / "out").pairs) == (0, 2)


def test_pairing_options_reach_the_manifest_and_the_report(tmp_path: Path) -> None:
    raw = FIXTURES / "nectar" / "raw.jsonl"
    options = ["--pairing", "all", "--min-margin", 2, "--tie", "keep", "--max-pairs-per-prompt", 1, "--seed", 3]
    options += ["--max-invalid", "100%"]
    code, text = run("convert", "nectar", "--input", raw, "--output", tmp_path / "out", "--workers", 1, *options)
    assert code == 0
    assert text.splitlines()[0] == "6 rows read = 3 pairs + 1 in quarantine + 2 left out"
    manifest = read_manifest(tmp_path / "out")
    assert manifest.options.pairing is not None
    assert manifest.options.pairing.model_dump() == {
        "pairing": "all",
        "min_margin": 2.0,
        "tie": "keep",
        "max_pairs_per_prompt": 1,
        "seed": 3,
    }
    assert manifest.pairs_left_out == {"cap": 2, "identical_responses": 1, "margin": 1, "single_response": 1}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "6 raw rows = 3 pairs + 1 in quarantine + 2 left out." in card
    assert "license: apache-2.0" in card


def test_rows_and_the_pairs_they_give_are_counted_separately(tmp_path: Path) -> None:
    raw = FIXTURES / "ranked" / "raw.jsonl"
    arguments = ["--output", tmp_path / "out", "--workers", 1, "--pairing", "all", "--max-invalid", "100%"]
    _, text = run("convert", "ranked", "--input", raw, *arguments)
    assert text.splitlines()[0] == "8 rows read = 4 that gave 6 pairs + 2 in quarantine + 2 left out"
    _, text = run("validate", tmp_path / "out")
    assert "8 rows = 4 that gave 6 pairs + 2 in quarantine + 2 left out" in text
