"""dpo-data as a user meets it: standard output, standard error, exit codes, and never a traceback."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dpo_data import SOURCES, convert, tokenize
from dpo_data.checks import ROW_CHECKS
from dpo_data.cli.app import main
from dpo_data.inspect.validation import ValidationReport
from dpo_data.prepared.reader import open_prepared
from dpo_data.tokens.cache import open_tokens

ROWS = [
    {"prompt": "What is this?", "chosen": " a bow", "rejected": " no"},
    {"prompt": "Hello there", "chosen": " hi, what?", "rejected": " go"},
    {"prompt": "How are you?", "chosen": " fine", "rejected": " bad day"},
]
BAD = {"prompt": "Hi", "chosen": "", "rejected": " no"}
DPO_DATA = [sys.executable, "-m", "dpo_data"]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def dpo_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs the command line in this process."""

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["dpo-data", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Ran(end.value.code or 0, out, err)

    return run


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_rows: Callable[..., Path]) -> Path:
    """A working directory with pairs.jsonl, whose rows are all good, and bad.jsonl, of which every fourth is not."""
    folder = tmp_path / "work"
    write_rows(folder / "pairs.jsonl", ROWS)
    write_rows(folder / "bad.jsonl", [*ROWS, BAD])
    monkeypatch.chdir(folder)
    return folder


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


# What works.


def test_convert_prints_what_became_of_the_rows(dpo_data, work):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--max-invalid", "25%")
    assert ran.code == 0
    assert ran.err == ""
    assert lines(ran.out) == [
        "4 rows read = 3 pairs + 1 in quarantine",
        "split  pairs  quarantined",
        "train      3            1",
        "in quarantine because  rows",
        "empty_response            1",
        "Each with its raw row and a hint: prepared/quarantine",
        "Prepared folder: prepared",
    ]
    assert open_prepared("prepared").manifest.pairs == 3


def test_a_rejected_folder_is_written_and_fails(dpo_data, work):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--output", "out")
    assert ran.code == 1
    assert ran.err == ""
    assert ran.out.splitlines()[-1] == (
        "Rejected: 25.0% of the rows are in quarantine, over --max-invalid 5.0%. Everything is written for you to look"
        " at, but no trainer will take it."
    )
    assert (work / "out" / "quarantine" / "train.jsonl").exists()


def test_convert_goes_straight_through_to_tokens(dpo_data, work, tokenizer_folder):
    ran = dpo_data(
        *("convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", tokenizer_folder),
        *("--max-length", 12, "--max-prompt-length", 4, "--truncation-mode", "keep_start"),
    )
    assert (ran.code, ran.err) == (0, "")
    assert lines(ran.out)[0] == "3 rows read = 3 pairs + 0 in quarantine"
    assert "Tokens made: toy, max length 12, max prompt length 4, keep_start" in lines(ran.out)
    [cache] = (work / "prepared" / "tokens").iterdir()
    assert lines(ran.out)[-1] == f"Token cache: {cache.relative_to(work)}"
    options = open_tokens(cache).manifest.options
    assert (options.max_length, options.max_prompt_length, options.truncation_mode) == (12, 4, "keep_start")


def test_a_rejected_folder_gets_no_tokens(dpo_data, work, tokenizer_folder):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (1, "")
    assert json.loads(ran.out)["tokens"] is None
    assert not (work / "prepared" / "tokens").exists()


def test_tokenize_says_whether_it_was_a_hit(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    first = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder)
    second = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder)
    assert (first.code, first.err, second.code, second.err) == (0, "", 0, "")
    assert lines(first.out)[0] == "Tokens made: toy, max length 1024, keep_end"
    assert lines(second.out)[0] == "Tokens already there (hit): toy, max length 1024, keep_end"
    assert first.out.splitlines()[1:] == second.out.splitlines()[1:]


def test_max_length_0_cuts_nothing(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--max-length", 0)
    assert lines(ran.out)[0] == "Tokens made: toy, nothing is cut, keep_end"


def test_tokenize_prints_what_it_cut_and_dropped(dpo_data, work, write_rows, tokenizer_folder):
    same = {"prompt": "zq", "chosen": "x" * 30 + "y", "rejected": "x" * 30 + "z"}
    long = {"prompt": "q" * 9, "chosen": "zzz", "rejected": "x"}
    write_rows(work / "long.jsonl", [same, long])
    dpo_data("convert", "pairs", "--input", "long.jsonl")
    # Each letter is a token. Of the second pair's 9 + 4 the prompt loses 5.
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--max-length", 8)
    cache = open_tokens(next((work / "prepared" / "tokens").iterdir()))
    assert lines(ran.out) == [
        "Tokens made: toy, max length 8, keep_end",
        "split  pairs  prompt tokens  response tokens  longest    prompts cut  responses cut  seams",
        "train      1              4                6        8  1 (−5 tokens)              0      0",
        "1 pairs of train dropped: equal_responses",
        f"Token cache: prepared/tokens/{cache.manifest.key}",
    ]


def test_validate_prints_a_readable_table(dpo_data, work):
    ran = dpo_data("validate", "bad.jsonl")
    assert (ran.code, ran.err) == (1, "")
    place = "work/bad.jsonl"
    assert lines(ran.out) == [
        "bad.jsonl: 4 rows = 3 pairs + 1 in quarantine (train 3)",
        "finding         severity  rows  where",
        f"empty_response  error        1  {place}:4: chosen is empty.",
        "                                An empty response has no tokens to learn from: remove the row, or fix it"
        " in the raw file.",
        "characters  min  p5  median  p95  p99  max",
        "prompt       11  11      12   13   13   13",
        "chosen        5   5       6   10   10   10",
        "rejected      3   3       3    8    8    8",
        "Chosen is longer than rejected in 66.7% of the pairs.",
        "Errors found.",
    ]


def test_validate_tells_what_each_max_length_would_cut(dpo_data, work, tokenizer_folder):
    ran = dpo_data(
        *("validate", "pairs.jsonl", "--tokenizer", tokenizer_folder),
        *("--max-length", 1000, "--max-length", 2, "--max-length", 1000),
    )
    assert (ran.code, ran.err) == (0, "")
    table = [line.split() for line in lines(ran.out)]
    start = next(index for index, words in enumerate(table) if words[:2] == ["max", "length"])
    assert table[start + 1 : start + 3] == [
        ["2", "3", "(100.0%)", "3", "(100.0%)"],
        ["1,000", "0", "(0.0%)", "0", "(0.0%)"],
    ]
    assert lines(ran.out)[-1] == "Nothing found."


@pytest.mark.parametrize(
    ("file", "fail_on", "code"),
    [("clean", "warning", 0), ("warned", "error", 0), ("warned", "warning", 1), ("wrong", "error", 1)],
)
def test_fail_on_says_from_which_gravity_validate_fails(dpo_data, work, write_rows, file, fail_on, code):
    rows = {
        "clean": ROWS,
        "warned": [{"prompt": "p", "chosen": "a\ufffdb", "rejected": "c"}],
        "wrong": [*ROWS, BAD],
    }[file]
    write_rows(work / "rows.jsonl", rows)
    assert dpo_data("validate", "rows.jsonl", "--fail-on", fail_on).code == code


def test_markup_in_the_data_is_printed_as_it_is(dpo_data, work, write_rows):
    write_rows(work / "[bold]rows.jsonl", [*ROWS, BAD])
    ran = dpo_data("validate", "[bold]rows.jsonl")
    assert lines(ran.out)[0] == "[bold]rows.jsonl: 4 rows = 3 pairs + 1 in quarantine (train 3)"
    assert "work/[bold]rows.jsonl:4: chosen is empty." in ran.out


def test_schema_writes_every_schema_with_its_example(dpo_data, work):
    ran = dpo_data("schema")
    assert (ran.code, ran.err) == (0, "")
    written = sorted(path.relative_to(work).as_posix() for path in (work / "schemas").iterdir())
    assert sorted(lines(ran.out)) == written
    assert "schemas/manifest.schema.json" in written


# --json.


def test_json_of_convert_is_the_manifest(dpo_data, work, tokenizer_folder):
    ran = dpo_data("convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["path"] == "prepared"
    assert printed["manifest"] == json.loads((work / "prepared" / "manifest.json").read_text())
    assert printed["tokens"]["manifest"] == json.loads(Path(printed["tokens"]["path"], "manifest.json").read_text())
    assert printed["tokens"]["hit"] is False


def test_json_of_tokenize_is_its_manifest(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    ran = dpo_data("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--json")
    assert (ran.code, ran.err) == (0, "")
    printed = json.loads(ran.out)
    assert printed["manifest"] == open_tokens(printed["path"]).manifest.model_dump(mode="json")


def test_json_of_validate_is_the_report(dpo_data, work):
    ran = dpo_data("validate", "bad.jsonl", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ValidationReport.model_validate_json(ran.out).findings["empty_response"].rows == 1


# User errors.

USER_ERRORS = {
    "unknown source": ("convert nope", f"nope: there is no such source.\n  Sources: {', '.join(SOURCES)}."),
    "no input": ("convert pairs", "pairs reads your own files.\n  Name them: --input FILE."),
    "missing file": ("convert pairs --input no.jsonl", "no.jsonl: there is no such file."),
    "glob without a match": ("convert pairs --input no*.jsonl", "no*.jsonl: no file matches."),
    "sample of a source without one": ("convert pairs --sample", "pairs has no embedded sample.\n  hh-rlhf has one."),
    "sample and input": (
        "convert hh-rlhf --sample --input pairs.jsonl",
        "--sample reads the embedded sample, and --input something else. Give one of them.",
    ),
    "map without =": (
        "convert pairs --input pairs.jsonl --map prompt",
        "--map prompt: is not FIELD=COLUMN, as in --map prompt=question.",
    ),
    "map without column": (
        "convert pairs --input pairs.jsonl --map prompt=",
        "--map prompt=: is not FIELD=COLUMN, as in --map prompt=question.",
    ),
    "map of an unknown field": (
        "convert pairs --input pairs.jsonl --map question=prompt",
        "--map question=...: there is no such field.\n"
        "  Fields: prompt, chosen, rejected, chosen_score, rejected_score, margin.",
    ),
    "map for a source that takes none": (
        "convert hh-rlhf --sample --map prompt=question",
        "hh-rlhf knows its columns and takes no --map.\n  Use the source `pairs` for other tables.",
    ),
    "max-invalid that is no number": (
        "convert pairs --input pairs.jsonl --max-invalid lots",
        "--max-invalid lots: is no share, as in --max-invalid 5% or --max-invalid 0.05.",
    ),
    "max-invalid over 100 %": (
        "convert pairs --input pairs.jsonl --max-invalid 150%",
        "--max-invalid 1.5: must be between 0 and 1 (or 0% and 100%).",
    ),
    "max-invalid nan": (
        "convert pairs --input pairs.jsonl --max-invalid nan",
        "--max-invalid nan: must be between 0 and 1 (or 0% and 100%).",
    ),
    "split and test fraction": (
        "convert pairs --input pairs.jsonl --split train --test-fraction 0.1",
        "--split and --test-fraction both say which split a row belongs to. Give one of them.",
    ),
    "test fraction over 1": (
        "convert pairs --input pairs.jsonl --test-fraction 1.5",
        "--test-fraction 1.5: must be at least 0 and under 1.",
    ),
    "limit of 0": ("convert pairs --input pairs.jsonl --limit 0", "--limit 0: must be at least 1."),
    "forbid of an unknown code": (
        "convert pairs --input pairs.jsonl --forbid nope",
        f"nope is not the code of a row check.\n  Row checks: {', '.join(sorted(check.code for check in ROW_CHECKS))}.",
    ),
    "allow of a row that is no pair": (
        "convert pairs --input pairs.jsonl --allow missing_field",
        "missing_field cannot be allowed or forbidden, because such a row has no pair to keep.",
    ),
    "forbid and allow": (
        "convert pairs --input pairs.jsonl --forbid empty_prompt --allow empty_prompt",
        "empty_prompt: both forbidden and allowed. Name each code once.",
    ),
    "the same file twice": (
        "convert pairs --input pairs.jsonl --input ./pairs.jsonl",
        "an input is named twice: work/pairs.jsonl.",
    ),
    "empty file": ("convert pairs --input empty.jsonl", "work/empty.jsonl: no rows in it."),
    "output that is a file": (
        "convert pairs --input pairs.jsonl --output pairs.jsonl",
        "pairs.jsonl: is a file.\n  Name a folder that is new or empty.",
    ),
    "output that holds other files": (
        "convert pairs --input pairs.jsonl --output .",
        ".: holds files that are not ours.\n  Name a folder that is new or empty.",
    ),
    "output that is finished": (
        "convert pairs --input pairs.jsonl --output done",
        "done: holds a finished dataset.\n  Replace it with --overwrite, or name another.",
    ),
    "input that is a prepared folder": (
        "convert pairs --input done",
        "done: is a prepared folder already.\n"
        "  See what is in it: dpo-data validate done; make tokens of it: dpo-data tokenize done.",
    ),
    "message lists as text": (
        "convert pairs --input messages.jsonl",
        "work/messages.jsonl: the responses are lists of messages, not text.\n"
        "  Convert them with --form conversational.",
    ),
    "red-team rows": (
        "convert hh-rlhf --input red.jsonl",
        "work/red.jsonl: red-team-attempts has single transcripts with harm ratings, not preference pairs.\n"
        "  Leave this file out, and convert the other folders of hh-rlhf.",
    ),
    "table without a column": (
        "convert pairs --input table.csv",
        'work/table.csv: has no column "rejected".\n  It has: prompt, chosen, bad.\n'
        "  Name the right ones with the source `pairs`: --map prompt=... --map chosen=... --map rejected=...",
    ),
    "tokenize nothing": (
        "tokenize no --tokenizer T",
        "no: there is no such folder.\n  Make it: dpo-data convert SOURCE --output no.",
    ),
    "max prompt length over max length": (
        "tokenize done --tokenizer T --max-length 8 --max-prompt-length 8",
        "--max-prompt-length 8: leaves no token of --max-length 8 for the response.\n"
        "  Give a smaller value; a quarter of the maximum length is common.",
    ),
    "max prompt length without max length": (
        "tokenize done --tokenizer T --max-length 0 --max-prompt-length 8",
        "--max-prompt-length 8: has no effect without truncation.\n  Give --max-length too.",
    ),
    "negative max length": (
        "tokenize done --tokenizer T --max-length -5",
        "--max-length -5: must be at least 2: a prompt token and a response token.",
    ),
    "chat template for text": (
        "tokenize done --tokenizer T --chat-template template.jinja",
        "--chat-template is for conversational data, and this is text.\n  Leave it out.",
    ),
    "chat template that is not there": (
        "tokenize done --tokenizer T --chat-template no.jinja",
        "no.jinja: there is no such file.",
    ),
    "tokenizer folder that is not there": (
        "tokenize done --tokenizer ../no/such",
        "../no/such: there is no such folder.\n  Name a folder with tokenizer.json, or a model on the Hub.",
    ),
    "validate nothing": ("validate no.jsonl", "no.jsonl: there is no such file."),
    "validate with an unknown source": (
        "validate pairs.jsonl --source nope",
        f"nope: there is no such source.\n  Sources: {', '.join(SOURCES)}.",
    ),
    "schemas onto a file": (
        "schema --output pairs.jsonl",
        "pairs.jsonl: writing failed: File exists.\n"
        "  No incomplete output was left behind. Free some space, or write to another folder.",
    ),
}


@pytest.fixture(scope="module")
def troubles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("troubles") / "work"
    folder.mkdir()
    good = "".join(json.dumps(row) + "\n" for row in ROWS)
    messages = {key: [{"role": "user", "content": text}] for key, text in ROWS[0].items()}
    (folder / "pairs.jsonl").write_text(good)
    (folder / "pairs.txt").write_text(good)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(good.encode())[:-12])
    (folder / "empty.jsonl").touch()
    (folder / "messages.jsonl").write_text(json.dumps(messages))
    (folder / "red.jsonl").write_text(json.dumps({"transcript": "\n\nHuman: hi", "rating": 1}))
    (folder / "table.csv").write_text("prompt,chosen,bad\na,b,c\n")
    (folder / "template.jinja").write_text("{{ messages }}")
    (folder / "latin1.jinja").write_bytes("{{ 'é' }}".encode("latin1"))
    convert("pairs", [folder / "pairs.jsonl"], output=folder / "done")
    return folder


@pytest.fixture
def trouble(troubles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that give trouble; the tests below leave it as it is."""
    monkeypatch.chdir(troubles)
    return troubles


def tree(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", USER_ERRORS)
def test_a_user_error_is_one_message_and_exit_2(dpo_data, trouble, tokenizer_folder, name):
    command, message = USER_ERRORS[name]
    before = tree(trouble)
    ran = dpo_data(*(str(tokenizer_folder) if word == "T" else word for word in command.split()))
    assert ran == Ran(2, "", f"Error: {message}\n")
    assert tree(trouble) == before


@pytest.mark.parametrize(
    "command",
    [
        "nope",
        "convert",
        "convert pairs --input pairs.jsonl --form html",
        "convert pairs --input pairs.jsonl --workers -1",
        "convert pairs --input pairs.jsonl --limit many",
        "convert pairs --input pairs.jsonl --nope",
        "tokenize done",
        "tokenize done --tokenizer T --truncation-mode keep_middle",
        "validate done --fail-on never",
    ],
)
def test_what_the_parser_refuses_is_exit_2_with_a_pointer_to_help(dpo_data, trouble, command):
    ran = dpo_data(*command.split())
    assert (ran.code, ran.out) == (2, "")
    assert "--help" in ran.err
    assert "Error" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("convert pairs --input cut.jsonl.gz", "cut.jsonl.gz: cannot be read: "),
        ("convert pairs --input pairs.txt", "pairs.txt: the name does not tell the format."),
        ("tokenize done --tokenizer pairs.jsonl", "pairs.jsonl: the tokenizer cannot be loaded: "),
        ("tokenize done --tokenizer T --chat-template latin1.jinja", "latin1.jinja: cannot be read: "),
        ("tokenize done --tokenizer T --cache-dir pairs.jsonl", "pairs.jsonl/tokens/"),
        ("validate done --tokenizer pairs.jsonl", "pairs.jsonl: the tokenizer cannot be loaded: "),
    ],
)
def test_what_cannot_be_read_is_named(dpo_data, trouble, tokenizer_folder, command, message):
    before = tree(trouble)
    ran = dpo_data(*(str(tokenizer_folder) if word == "T" else word for word in command.split()))
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.startswith("Error: ")
    assert "Traceback" not in ran.err
    assert tree(trouble) == before


def test_on_error_stop_names_the_first_bad_row_and_leaves_nothing(dpo_data, work):
    ran = dpo_data("convert", "pairs", "--input", "bad.jsonl", "--on-error", "stop")
    assert ran == Ran(
        1,
        "",
        "Error: work/bad.jsonl:4: chosen is empty. [empty_response]\n"
        "  An empty response has no tokens to learn from: remove the row, or fix it in the raw file.\n"
        "  To put such rows in quarantine and go on: --on-error quarantine.\n",
    )
    assert not (work / "prepared").exists()


def test_on_overlong_fail_names_the_first_pair(dpo_data, work, tokenizer_folder):
    dpo_data("convert", "pairs", "--input", "pairs.jsonl")
    ran = dpo_data(
        *("tokenize", "prepared", "--tokenizer", tokenizer_folder, "--max-length", 2, "--on-overlong", "fail")
    )
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: work/pairs.jsonl:1: ")
    assert "tokens, over --max-length 2. [too_long]\n" in ran.err


@pytest.mark.parametrize("option", [("--max-prompt-length", "2000"), ("--tokenizer", "../no/such")])
def test_convert_refuses_token_options_before_it_converts(dpo_data, work, tokenizer_folder, option):
    ran = dpo_data("convert", "pairs", "--input", "pairs.jsonl", "--tokenizer", tokenizer_folder, *option)
    assert ran.code == 2
    assert not (work / "prepared").exists()


# As a process.


def process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DPO_DATA, *map(str, words)], capture_output=True, text=True, check=False, timeout=120, **options
    )


def test_help_imports_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "pandas", "pydantic", "pyarrow", "numpy")
    code = (
        "import sys\nfrom dpo_data.cli.app import main\nsys.argv = ['dpo-data', '--help']\n"
        f"try: main()\nfinally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Turn raw preference data into validated pairs" in ran.stdout
    assert ran.stderr == "[]\n"


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


def test_neither_pandas_nor_torch_is_loaded_on_the_way_from_raw_rows_to_tokens(tokenized_by_a_process):
    """Half a second and four seconds, of which the user gets nothing."""
    _, loaded = tokenized_by_a_process
    assert loaded == []


def test_the_command_and_the_library_agree_on_a_tokenizer(tokenized_by_a_process, tokenizer_folder):
    """Though one loads it without torch, and the other where torch is."""
    prepared, _ = tokenized_by_a_process
    assert tokenize(prepared, tokenizer=tokenizer_folder).hit


def test_help_groups_the_options_and_keeps_the_lines_of_examples(dpo_data):
    ran = dpo_data("convert", "--help")
    titles = [line for line in ran.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "Arguments:",
        "Input:",
        "Pairing of scored or ranked responses:",
        "Checks:",
        "Output:",
        "Options:",
        "Tokens:",
        "What is printed:",
    ]
    assert "  dpo-data convert hh-rlhf --sample --output prepared/" in ran.out.splitlines()


def test_help_names_every_command_on_a_whole_line(dpo_data):
    listed = dpo_data("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == [
        "convert",
        "validate",
        "tokenize",
        "sources",
        "sniff",
        "report",
        "show",
        "diff",
        "where",
        "schema",
    ]
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", ["convert", "validate", "tokenize", "schema"])
def test_every_command_has_help(dpo_data, command):
    ran = dpo_data(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert f"dpo-data {command}" in ran.out


def test_offline_the_hub_source_names_input_and_sample(work):
    ran = process("convert", "hh-rlhf", env=os.environ | {"HF_HUB_OFFLINE": "1"}, cwd=work)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(
        "Error: hf://datasets/Anthropic/hh-rlhf/harmless-base/train.jsonl.gz: cannot be reached: "
    )
    assert ran.stderr.splitlines()[-1] == (
        "  Read a file you have: --input FILE. Or try the embedded sample: --sample (sources that have one)."
    )
    assert not (work / "prepared").exists()


def test_rows_come_through_standard_input_and_no_progress_into_a_pipe(work):
    ran = process("convert", "pairs", "--input", "-", input=(work / "bad.jsonl").read_text(), cwd=work)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.startswith("4 rows read = 3 pairs + 1 in quarantine\n")
    [row] = map(json.loads, (work / "prepared" / "quarantine" / "train.jsonl").read_text().splitlines())
    assert (row["file"], row["line"]) == ("stdin", 4)


def test_an_encoding_that_lacks_a_letter_is_no_traceback(work, write_rows):
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


def test_progress_is_shown_on_a_terminal_alone(work):
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
def test_a_reader_that_goes_away_is_no_traceback(work, words):
    """As in `dpo-data ... | head`, with the reader gone before the first byte."""
    with subprocess.Popen(
        [*DPO_DATA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work
    ) as running:
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) != 0


@pytest.mark.parametrize("words", [["convert", "pairs", "--input"], ["validate"]])
def test_ctrl_c_ends_with_130_and_leaves_nothing(work, words):
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


def test_ctrl_c_anywhere_else_is_130_without_a_traceback(dpo_data, work, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpo_data.inspect.validation.validate", interrupted)
    ran = dpo_data("validate", "pairs.jsonl")
    assert (ran.code, ran.out) == (130, "")
    assert "Traceback" not in ran.err
