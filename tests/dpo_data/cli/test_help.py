"""The help of dpo-data."""

import os
import re
import subprocess
import sys

import pytest
from data_cli import DPO_DATA, Ran

import dpo_data as dpo_data_package
from dpo_data.cli.app import ALIASES, COMMANDS


def test_help_imports_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "pandas", "pydantic", "pyarrow", "numpy")
    code = (
        "import sys\nfrom dpo_data.cli.app import main\nsys.argv = ['dpo-data', '--help']\n"
        f"try: main()\nfinally: print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Turn raw preference data into validated pairs" in ran.stdout
    assert ran.stderr == "[]\n"


def test_help_groups_the_options_and_keeps_the_lines_of_examples(dpo_data):
    ran = dpo_data("convert", "--help")
    titles = [line for line in ran.out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "Arguments:",
        "Input:",
        "Pairing of scored or ranked responses:",
        "Checks:",
        "Output:",
        "Tokens:",
        "Options:",
    ]
    assert "  dpo-data convert hh-rlhf --sample" in ran.out.splitlines()
    output = ran.out.partition("Output:\n")[2].partition("\n\n")[0]
    assert [line.split()[0] for line in output.splitlines() if line.startswith("  -")] == [
        *("-o,", "-f,", "--keep", "--redact", "--name", "--description", "--license", "--overwrite")
    ]


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
        "mix",
        "dedup",
        "filter",
        "split",
        "apply",
        "sample",
        "decontaminate",
        "redact",
        "build",
        "export",
        "schema",
    ]
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", ["", *(function.__name__ for function in COMMANDS), *ALIASES])
def test_every_command_has_help_that_fits_the_terminal(dpo_data, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    long, short = dpo_data(*command.split(), "--help"), dpo_data(*command.split(), "-h")
    assert (long.code, long.err) == (0, "")
    assert long == short
    assert long.out.startswith(f"Usage: dpo-data {command}".strip())
    assert max(map(len, long.out.splitlines())) <= columns


def test_help_lists_every_exit_code(dpo_data):
    words = " ".join(dpo_data("--help").out.split())
    assert words.endswith("Exit codes: 0 fine, 1 findings, 2 usage or unreadable input, 130 stopped with Ctrl-C.")


def test_every_option_has_a_help_text(dpo_data, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    for function in COMMANDS:
        for option in dpo_data(function.__name__, "--help").out.partition("Usage")[2].split("\n  -")[1:]:
            text = option.partition("  ")[2] or option.partition("\n")[2]
            assert re.search(r"[A-Z].*\.", " ".join(text.split())), option


def test_the_version_is_shown(dpo_data):
    assert dpo_data("--version") == Ran(0, f"dpo-data {dpo_data_package.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        ("dpo-data conv", ["convert"]),
        ("dpo-data convert ultra", ["ultrafeedback", "ultrafeedback-binarized", "ultra-interact"]),
        ("dpo-data convert pairs --pairing best", ["best-worst", "best-rest"]),
        ("dpo-data tokenize --max-", ["--max-length", "--max-prompt-length", "--max-invalid"]),
    ],
)
def test_a_shell_completes_commands_sources_options_and_values(words, candidates):
    env = os.environ | {
        "_DPO_DATA_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    ran = subprocess.run([*DPO_DATA], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout.split() == candidates
