"""User errors of dpo-data: one message, an exit code, and no traceback."""

import gzip
import json
import re
from pathlib import Path

import pytest
from data_cli import ROWS, Ran

from dpo_data import SOURCES, convert
from dpo_data.checks import ROW_CHECKS

USER_ERRORS = {
    "unknown source": ("convert nope", f"nope: there is no such source.\n  Sources: {', '.join(SOURCES)}."),
    "no input": ("convert pairs", "pairs reads your own files.\n  Name them: --input FILE."),
    "missing file": ("convert pairs --input no.jsonl", "no.jsonl: there is no such file."),
    "glob without a match": ("convert pairs --input no*.jsonl", "no*.jsonl: no file matches."),
    "unknown encoding": (
        "convert pairs --input pairs.jsonl --encoding utf-99",
        "--encoding utf-99: there is no such encoding.\n  Usual ones: cp1252, latin-1, utf-16, gb18030, shift_jis.",
    ),
    "delimiter of two characters": (
        "convert pairs --input pairs.jsonl --delimiter ;;",
        '--delimiter ;;: must be one character, or "tab".',
    ),
    "delimiter without a table": (
        "convert pairs --input pairs.jsonl --delimiter ;",
        "--delimiter ;: applies to CSV and TSV files, and no input is one.",
    ),
    "sample of a source without one": ("convert pairs --sample", "pairs has no embedded sample.\n  hh-rlhf has one."),
    "sample and input": (
        "convert hh-rlhf --sample --input pairs.jsonl",
        "--sample reads the embedded sample, and --input other files. Pass only one of them.",
    ),
    "map without =": (
        "convert pairs --input pairs.jsonl --map prompt",
        "--map prompt: must be FIELD=COLUMN, as in --map prompt=question.",
    ),
    "map without column": (
        "convert pairs --input pairs.jsonl --map prompt=",
        "--map prompt=: must be FIELD=COLUMN, as in --map prompt=question.",
    ),
    "map of an unknown field": (
        "convert pairs --input pairs.jsonl --map question=prompt",
        "--map question=...: there is no such field.\n"
        "  Fields: prompt, chosen, rejected, chosen_score, rejected_score, margin, system, history, input, tools, "
        "chat_template_kwargs, id.",
    ),
    "map for a source that takes none": (
        "convert hh-rlhf --sample --map prompt=question",
        "--map does not apply to hh-rlhf, whose columns are fixed.\n  Use the source `pairs` for other tables.",
    ),
    "max-invalid that is no number": (
        "convert pairs --input pairs.jsonl --max-invalid lots",
        "--max-invalid lots: must be a share, as in 5% or 0.05.",
    ),
    "max-invalid over 100 %": (
        "convert pairs --input pairs.jsonl --max-invalid 150%",
        "--max-invalid 1.5: must be between 0 and 1 (0% and 100%).",
    ),
    "max-invalid nan": (
        "convert pairs --input pairs.jsonl --max-invalid nan",
        "--max-invalid nan: must be between 0 and 1 (0% and 100%).",
    ),
    "split and test fraction": (
        "convert pairs --input pairs.jsonl --split train --test-fraction 0.1",
        "--split and --test-fraction both decide the split of a row. Pass only one of them.",
    ),
    "test fraction over 1": (
        "convert pairs --input pairs.jsonl --test-fraction 1.5",
        "--test-fraction 1.5: must be at least 0 and less than 1.",
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
        "convert shp --input done",
        "done: is a prepared folder already.\n  Check it: dpo-data validate done; or convert it again: dpo-data convert"
        " pairs --input done.",
    ),
    "message lists as text": (
        "convert pairs --input messages.jsonl --form text",
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
        "  Name the right columns: --map FIELD=COLUMN.",
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
        "../no/such: there is no such folder.\n  Name a folder with the tokenizer, or a model on the Hub.",
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
    (folder / "utf16.jinja").write_bytes("{".encode("utf-16"))
    convert("pairs", [folder / "pairs.jsonl"], output=folder / "done", form="text")
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


def usage(command: str, message: str) -> str:
    arguments = {"": "COMMAND ARGS...", "convert": "SOURCE", "tokenize": "FOLDER", "validate": "PATH"}[command]
    name = f"dpo-data {command}".strip()
    return f"Usage: {name} OPTIONS {arguments}\nTry '{name} --help' for help.\n\nError: {message}\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("covert", "covert: there is no such command.\n  Did you mean convert?"),
        ("convert", "Missing argument 'SOURCE'."),
        (
            "convert pairs --form convers",
            "Invalid value for '--form' / '-f': 'convers' is not one of 'auto', 'text', 'conversational'.\n"
            "  Did you mean conversational?",
        ),
        ("convert pairs --inptu pairs.jsonl", "--inptu: there is no such option.\n  Did you mean --input?"),
        ("convert pairs --min_margi 1", "--min-margi: there is no such option.\n  Did you mean --min-margin?"),
        ("convert pairs --zzz", "--zzz: there is no such option."),
        ("tokenize done", "Missing option '--tokenizer' / '-t'."),
        (
            "tokenize done --tokenizer T --truncation-mode keep_middle",
            "Invalid value for '--truncation-mode': 'keep_middle' is not one of 'keep_end', 'keep_start'.\n"
            "  Did you mean keep_end?",
        ),
        ("validate done --fail-on never", "Invalid value for '--fail-on': 'never' is not one of 'error', 'warning'."),
    ],
)
def test_what_the_parser_refuses_points_to_help_and_suggests_the_nearest_name(dpo_data, trouble, command, message):
    ran = dpo_data(*command.split())
    without_brackets = re.sub(r"[\[\]]", "", ran.err)  # which not every version of typer has
    expected = usage("" if command == "covert" else command.split()[0], message)
    assert ran._replace(err=without_brackets) == Ran(2, "", expected)


@pytest.mark.parametrize(
    "command",
    ["nope", "convert pairs --input pairs.jsonl --workers -1", "convert pairs --input pairs.jsonl --limit many"],
)
def test_what_the_parser_refuses_is_exit_2_with_a_pointer_to_help(dpo_data, trouble, command):
    ran = dpo_data(*command.split())
    assert (ran.code, ran.out) == (2, "")
    assert "--help" in ran.err
    assert "Error: " in ran.err
    assert command.split()[-1] in ran.err
    assert "Traceback" not in ran.err


def test_a_misspelt_source_is_met_with_the_nearest_one(dpo_data):
    assert dpo_data("convert", "hhrlhf") == Ran(
        2,
        "",
        f"Error: hhrlhf: there is no such source.\n  Sources: {', '.join(SOURCES)}.\n  Did you mean hh-rlhf?\n",
    )


@pytest.mark.parametrize("command", ["validate", "tokenize -t T", "report", "show 1"])
def test_without_the_default_folder_the_error_says_how_to_make_it(dpo_data, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert dpo_data(*command.split()) == Ran(
        2, "", "Error: prepared: there is no such folder.\n  Make it: dpo-data convert SOURCE --output prepared.\n"
    )


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("convert pairs --input cut.jsonl.gz", "cut.jsonl.gz: cannot be read: "),
        ("convert pairs --input pairs.txt", "pairs.txt: cannot infer the format from the file name."),
        ("tokenize done --tokenizer pairs.jsonl", "pairs.jsonl: the tokenizer cannot be loaded: "),
        ("tokenize done --tokenizer T --chat-template latin1.jinja", "latin1.jinja: cannot be read: it is not UTF-8: "),
        ("tokenize done --tokenizer T --chat-template utf16.jinja", "utf16.jinja: cannot be read: it is not UTF-8: "),
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
        "  To quarantine such rows and continue: --on-error quarantine.\n",
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
