"""convert --redact: personal data becomes placeholders in pairs and quarantine; without the option nothing changes."""

import json

from typer.testing import CliRunner

from dpo_data import convert, open_prepared
from dpo_data.cli.app import app
from dpo_data.engine import ITEMS_WITHOUT_POOL
from dpo_data.inspect.validation import validate

ROWS = [
    {"prompt": "Whom do I ask, jo@example.org or 212-555-0199?", "chosen": "Jo.", "rejected": "4111 1111 1111 1111"},
    {"prompt": "Mail?", "chosen": "jo@example.org", "rejected": "al@example.org"},
    {"prompt": "Nothing here?", "chosen": "Yes.", "rejected": "No."},
    {"prompt": "Whose is al@example.org?", "chosen": 7, "rejected": "No."},
]


def pairs(folder):
    return [
        tuple(row[field] for field in ("prompt", "chosen", "rejected"))
        for batch in open_prepared(folder).batches("train")
        for row in batch.to_pylist()
    ]


def test_placeholders_in_pairs_and_quarantine_are_counted(make_prepared):
    folder = make_prepared(ROWS, redact=True, max_invalid=1)
    assert pairs(folder) == [
        ("Whom do I ask, [EMAIL] or [PHONE]?", "Jo.", "[CARD]"),
        ("Nothing here?", "Yes.", "No."),
    ]
    manifest = open_prepared(folder).manifest
    assert manifest.options.redact
    assert manifest.redacted == {"card": 1, "email": 1, "phone": 1}
    # Two addresses become one placeholder: nothing is left to prefer.
    assert manifest.quarantined_by_code == {"identical_responses": 1, "wrong_type": 1}
    quarantine = (folder / "quarantine" / "train.jsonl").read_text()
    assert "example.org" not in quarantine
    assert [json.loads(line)["raw"] for line in quarantine.splitlines()] == [
        '{"prompt": "Mail?", "chosen": "[EMAIL]", "rejected": "[EMAIL]"}',
        '{"prompt": "Whose is [EMAIL]?", "chosen": 7, "rejected": "No."}',
    ]
    assert validate(folder, deep=True).personal_data == {}


def test_messages_and_tool_calls_are_redacted_and_keep_their_structure(make_prepared):
    row = {
        "prompt": [{"role": "user", "content": "Mail jo@example.org"}],
        "chosen": [{"role": "assistant", "content": "Done, 212-555-0199."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }
    folder = make_prepared([row], form="conversational", redact=True)
    assert pairs(folder) == [
        (
            [{"role": "user", "content": "Mail [EMAIL]"}],
            [{"role": "assistant", "content": "Done, [PHONE]."}],
            [{"role": "assistant", "content": "No."}],
        )
    ]


def test_a_tool_call_is_redacted(tmp_path, write_rows):
    call = {"id": "1", "type": "function", "function": {"name": "mail", "arguments": '{"to": "jo@example.org"}'}}
    row = {
        "input": {"messages": [{"role": "user", "content": "Mail Jo"}], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [{"role": "assistant", "content": "", "tool_calls": [call]}],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    }
    raw = write_rows(tmp_path / "raw" / "a.jsonl", [row])
    convert("openai-preference", [raw], output=tmp_path / "out", form="conversational", redact=True)
    ((_, chosen, _),) = pairs(tmp_path / "out")
    assert "jo@example.org" not in chosen[0]["tool_calls"]
    assert "[EMAIL]" in chosen[0]["tool_calls"]


def test_rows_without_personal_data_are_the_same_bytes_with_and_without(make_prepared):
    rows = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no @ 10:30"} for n in range(50)]
    plain, redacted = make_prepared(rows, "plain"), make_prepared(rows, "redacted", redact=True)
    shard = next((plain / "train").glob("*.arrow")).name
    assert (plain / "train" / shard).read_bytes() == (redacted / "train" / shard).read_bytes()
    assert open_prepared(plain).manifest.redacted == {}


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, write_rows, monkeypatch):
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 5000)
    rows = [{"prompt": f"Ask {n}@example.org " * 50, "chosen": "yes", "rejected": "no"} for n in range(400)]
    raw = write_rows(tmp_path / "raw" / "a.jsonl", rows)
    # Fewer chunks are converted in one process.
    assert raw.stat().st_size > 3 * ITEMS_WITHOUT_POOL * 5000
    manifests = []
    for workers in (1, 2):
        convert("pairs", [raw], output=tmp_path / str(workers), redact=True, workers=workers, form="text")
        manifests.append((tmp_path / str(workers) / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]


def test_convert_prints_the_counts_of_placeholders(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", ROWS[:1])
    done = CliRunner().invoke(
        app, ["convert", "pairs", "--input", str(raw), "--output", str(tmp_path / "out"), "--redact"]
    )
    assert done.exit_code == 0
    assert "placeholder for" in done.stdout
    assert "email" in done.stdout
    done = CliRunner().invoke(app, ["convert", "pairs", "--input", str(raw), "--output", str(tmp_path / "two")])
    assert "placeholder for" not in done.stdout
