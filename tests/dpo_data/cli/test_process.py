"""dpo-data as a process: streams, encodings, signals, and what it loads."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_cli import BAD, DPO_DATA, ROWS, process

from dpo_data import tokenize


@pytest.fixture(scope="module")
def tokenized_by_a_process(tmp_path_factory, tokenizer_folder) -> tuple[Path, list[str]]:
    """A folder that a process made of raw rows and tokenized, and what was loaded there that takes its time."""
    folder = tmp_path_factory.mktemp("tokenized")
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    words = ["dpo-data", "convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", str(tokenizer_folder)]
    code = (
        f"import json, sys\nfrom dpo_data.__main__ import main\nsys.argv = {words}\ntry: main()\nfinally: print("
        "json.dumps([name for name in ('torch', 'pandas', 'datasets') if sys.modules.get(name)]), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return folder / "prepared", json.loads(ran.stderr)


def test_converting_and_tokenizing_load_neither_pandas_nor_torch(tokenized_by_a_process):
    """Half a second and four seconds, of which the user gets nothing."""
    _, loaded = tokenized_by_a_process
    assert loaded == []


def test_the_command_and_the_library_agree_on_a_tokenizer(tokenized_by_a_process, tokenizer_folder):
    """Though one loads it without torch, and the other where torch is."""
    prepared, _ = tokenized_by_a_process
    assert tokenize(prepared, tokenizer=tokenizer_folder).hit


def test_offline_the_error_of_a_hub_source_names_input_and_sample(work):
    ran = process("convert", "hh-rlhf", env=os.environ | {"HF_HUB_OFFLINE": "1"}, cwd=work)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(
        "Error: hf://datasets/Anthropic/hh-rlhf/harmless-base/train.jsonl.gz: cannot be reached: "
    )
    assert ran.stderr.splitlines()[-1] == ("  Read a local copy: --input FILE. Or try the embedded sample: --sample.")
    assert not (work / "prepared").exists()


def test_rows_are_read_from_standard_input_and_a_pipe_gets_no_progress(work):
    ran = process("convert", "pairs", "--input", "-", input=(work / "bad.jsonl").read_text(), cwd=work)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("4 rows read = 3 pairs + 1 in quarantine\n")
    [row] = map(json.loads, (work / "prepared" / "quarantine" / "train.jsonl").read_text().splitlines())
    assert (row["file"], row["line"]) == ("stdin", 4)


def test_characters_that_the_encoding_lacks_are_escaped(work, write_rows):
    write_rows(work / "café.jsonl", [*ROWS, BAD])
    in_ascii = os.environ | {"PYTHONIOENCODING": "ascii"}
    table = process("validate", "café.jsonl", env=in_ascii, cwd=work)
    assert (table.returncode, table.stderr) == (1, "")
    assert table.stdout.startswith("caf\\xe9.jsonl: 4 rows = 3 pairs + 1 in quarantine")
    document = process("validate", "café.jsonl", "--json", env=in_ascii, cwd=work)
    assert json.loads(document.stdout)["path"] == "café.jsonl"


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have UTF-8 names alone")
def test_a_file_name_that_is_not_utf8_is_read_and_escaped_in_origins(work):
    name = os.fsdecode(b"caf\xe9.jsonl")
    os.rename("bad.jsonl", name)
    ran = process("convert", "pairs", "--input", name, "--max-invalid", "25%", cwd=work)
    assert (ran.returncode, ran.stderr) == (0, "")
    [row] = map(json.loads, (work / "prepared" / "quarantine" / "train.jsonl").read_text().splitlines())
    assert row["file"] == "work/caf\\udce9.jsonl"
    assert process("validate", name, cwd=work).returncode == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have UTF-8 names alone")
def test_a_folder_name_that_is_not_utf8_is_refused_by_name(work, dpo_data):
    name = os.fsdecode(b"caf\xe9")
    ran = process("convert", "pairs", "--input", "pairs.jsonl", "--output", name, cwd=work)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == ("Error: caf\\udce9: the name is not UTF-8, which Arrow requires.\n  Name another folder.\n")
    assert dpo_data("convert", "pairs", "--input", "pairs.jsonl").code == 0
    os.rename("prepared", name)
    ran = process("validate", name, cwd=work)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "Error: caf\\udce9: the name is not UTF-8, which Arrow requires.\n  Rename the folder.\n"


def test_a_terminal_gets_a_progress_bar(work):
    pty = pytest.importorskip("pty")
    terminal, theirs = pty.openpty()
    ran = subprocess.run(
        [*DPO_DATA, "validate", "pairs.jsonl", "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80"},
        cwd=work,
        check=True,
    )
    os.close(theirs)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "Validating" in shown
    assert json.loads(ran.stdout)["pairs"] == 3


@pytest.mark.parametrize("words", [["--help"], ["validate", "pairs.jsonl"], ["validate", "pairs.jsonl", "--json"]])
def test_a_closed_pipe_gives_no_traceback(work, words):
    """As in `dpo-data ... | head`, with the reader gone before the first byte."""
    with subprocess.Popen(
        [*DPO_DATA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work
    ) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) != 0


@pytest.mark.parametrize("words", [["convert", "pairs", "--input"], ["validate"]])
def test_ctrl_c_exits_with_130_and_leaves_nothing_behind(work, words):
    scratch = work / "tmp"
    scratch.mkdir()
    with subprocess.Popen(
        [*DPO_DATA, *words, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work,
        env=os.environ | {"TMPDIR": str(scratch)},
    ) as running:
        started = time.monotonic()
        # The store of row keys: from there on the run is under way, waiting for its first row.
        while not any(work.rglob(".partial/keys")) and time.monotonic() < started + 60:
            time.sleep(0.02)
        assert any(work.rglob(".partial/keys"))
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "nothing of this run was left behind." in err
    assert "Traceback" not in err
    assert not (work / "prepared").exists()
    assert list(scratch.iterdir()) == []


def test_ctrl_c_at_any_time_exits_with_130_without_a_traceback(dpo_data, work, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpo_data.inspect.validation.validate", interrupted)
    ran = dpo_data("validate", "pairs.jsonl")
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err
