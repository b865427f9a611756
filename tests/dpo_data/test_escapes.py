"""What is shown and recorded: control characters are visible, and URLs have no secrets."""

import json
import sys

from typer.testing import CliRunner

from dpo_data.cli.app import app
from dpo_data.errors import InputError, UsageError
from dpo_data.escapes import without_secrets
from dpo_data.readers.remote import public_url

SECRET_URL = "https://me:PASSWORD@host.invalid/rows.jsonl?token=TOKEN"  # noqa: S105
ROW = {"prompt": "Who\x1b[2J are you?\n", "chosen": "A\u202erobot.\x9b", "rejected": "Go away."}


def test_users_passwords_and_queries_are_left_out_of_urls():
    assert public_url(SECRET_URL) == "https://host.invalid/rows.jsonl"
    assert public_url("s3://KEY:SECRET@bucket/a?.jsonl") == "s3://bucket/a?.jsonl"
    assert public_url("simplecache::https://me:PASSWORD@host/a") == "simplecache::https://host/a"
    assert without_secrets("Why? me@host, a://b") == "Why? me@host, a://b"


def test_an_error_has_no_secrets_and_no_control_characters():
    assert str(InputError(f"{SECRET_URL}: \x1b[31m")) == "https://host.invalid/rows.jsonl: \\x1b[31m"
    assert str(UsageError("no.", "inputs", SECRET_URL)) == "inputs=https://host.invalid/rows.jsonl: no."


def test_the_command_is_recorded_without_secrets(make_prepared, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dpo-data", "--input", SECRET_URL])
    folder = make_prepared([ROW])
    command = json.loads((folder / "provenance.json").read_text())["command"]
    assert command == ["dpo-data", "--input", "https://host.invalid/rows.jsonl"]


def test_show_makes_control_characters_of_a_row_visible(make_prepared):
    folder = make_prepared([ROW])
    for options in ([], ["--json"]):
        done = CliRunner().invoke(app, ["show", str(folder), "train:0", *options])
        assert done.exit_code == 0, done.output
        assert not {"\x1b", "\x9b", "\u202e"} & set(done.stdout)
        assert ("\\u001b[2J" if options else "\\x1b[2J") in done.stdout


def test_a_misspelt_option_is_shown_with_visible_control_characters():
    done = CliRunner().invoke(app, ["validate", "--de\x1bep"])
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
    assert "--de\\x1bep" in done.stderr
