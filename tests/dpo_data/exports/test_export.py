"""Exports: what is written, what is refused, and what becomes of every pair."""

import json
import shutil

import pytest

from dpo_data import LossError, PreparedError, UsageError, check_export, convert, export, open_prepared
from dpo_data.exports import EXPORTS, load_export

SYSTEM = {"role": "system", "content": "Be brief."}
CHAT = [
    {
        "prompt": [SYSTEM, {"role": "user", "content": f"Question {n}?"}],
        "chosen": [{"role": "assistant", "content": f"Yes, {n}."}],
        "rejected": [{"role": "assistant", "content": f"No, {n}."}],
    }
    for n in range(3)
]
TURNS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": "And now?"},
]
LONG = {"prompt": TURNS, "chosen": CHAT[0]["chosen"], "rejected": CHAT[0]["rejected"]}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lima"}'}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
CALLING = {
    "tools": TOOLS,
    "prompt": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "Sunny", "tool_call_id": "c1"},
    ],
    "chosen": [{"role": "assistant", "content": "It is sunny."}],
    "rejected": [{"role": "assistant", "content": "Unknown."}],
}
TEXT = [{"prompt": f"Question {n}?", "chosen": f" yes {n}", "rejected": f" no {n}"} for n in range(3)]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ids(folder):
    """Return the pair ids of a prepared folder, sorted."""
    prepared = open_prepared(folder)
    return sorted(
        id_ for split in prepared.split_names for batch in prepared.batches(split) for id_ in batch["id"].to_pylist()
    )


@pytest.fixture
def chat(make_prepared):
    return make_prepared([*CHAT, LONG], form="conversational")


def test_trl_lines_are_the_pairs(chat, tmp_path):
    report = export("trl", chat, output=tmp_path / "out")
    assert lines(tmp_path / "out" / "train.jsonl") == [*CHAT, LONG]
    assert (report.pairs, report.lines, report.left_out) == (4, 4, {})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "export.json", "train.jsonl"]


def test_trl_finds_variables_of_the_template_in_every_line_or_in_none(make_prepared, tmp_path):
    folder = make_prepared([CHAT[0], CHAT[1] | {"chat_template_kwargs": {"think": False}}], form="conversational")
    export("trl", folder, output=tmp_path / "out")
    found = [line["chat_template_kwargs"] for line in lines(tmp_path / "out" / "train.jsonl")]
    assert found == [{}, {"think": False}]
    convert("pairs", [tmp_path / "out"], output=tmp_path / "back")
    assert ids(tmp_path / "back") == ids(folder)


def test_llamafactory_lines_come_with_their_entry_of_dataset_info(chat, tmp_path):
    export("llamafactory", chat, output=tmp_path / "out")
    assert lines(tmp_path / "out" / "train.jsonl")[0] == {
        "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Question 0?"}],
        "chosen": {"from": "gpt", "value": "Yes, 0."},
        "rejected": {"from": "gpt", "value": "No, 0."},
    }
    assert json.loads((tmp_path / "out" / "dataset_info.json").read_text()) == {
        "pairs": {
            "file_name": "train.jsonl",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected"},
        }
    }


def test_alpaca_lines_have_a_history_and_a_system_text(chat, tmp_path):
    export("llamafactory", chat, output=tmp_path / "out", layout="alpaca")
    found = lines(tmp_path / "out" / "train.jsonl")
    assert found[0] == {"instruction": "Question 0?", "system": "Be brief.", "chosen": "Yes, 0.", "rejected": "No, 0."}
    assert found[3]["history"] == [["Hello", "Hi"]]


def test_kto_has_two_lines_a_pair_and_no_repetition_within_a_prompt(make_prepared, tmp_path):
    again = TEXT[0] | {"rejected": " never"}
    report = export("kto", make_prepared([TEXT[0], again, TEXT[1]]), output=tmp_path / "out")
    labels = [(line["completion"], line["label"]) for line in lines(tmp_path / "out" / "train.jsonl")]
    assert labels == [(" yes 0", True), (" no 0", False), (" never", False), (" yes 1", True), (" no 1", False)]
    assert (report.pairs, report.lines_per_pair, report.lines, report.left_out) == (3, 2, 5, {"repeated_line": 1})


def test_openai_writes_the_arguments_of_calls_as_text(make_prepared, tmp_path):
    call = {**CALL, "function": {"name": "weather", "arguments": {"city": "Lima"}}}
    prompt = [CALLING["prompt"][0], {"role": "assistant", "content": "", "tool_calls": [call]}, CALLING["prompt"][2]]
    export("openai", make_prepared([CALLING | {"prompt": prompt}], form="conversational"), output=tmp_path / "out")
    (line,) = lines(tmp_path / "out" / "train.jsonl")
    assert line["input"]["messages"][1]["tool_calls"] == [CALL]
    assert line["input"]["tools"] == TOOLS


def test_a_loss_refuses_the_export_with_counts_and_leaves_nothing(make_prepared, tmp_path):
    scored = [row | {"chosen_score": 2, "rejected_score": 1} for row in TEXT]
    with pytest.raises(LossError) as caught:
        export("kto", make_prepared([TEXT[0], *scored[1:]]), output=tmp_path / "out")
    assert "raw/pairs.jsonl:2: kto cannot hold the scores or the margin.\n  scores  2 pairs\n" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_with_allow_loss_pairs_lose_what_the_format_cannot_hold(make_prepared, tmp_path):
    scored = TEXT[1] | {"chosen_score": 2, "rejected_score": 1}
    report = export("kto", make_prepared([TEXT[0], scored]), output=tmp_path / "out", allow_loss=True)
    assert (report.lost, report.lines) == ({"scores": 1}, 4)


def test_with_allow_loss_pairs_that_would_be_another_conversation_are_left_out(make_prepared, tmp_path):
    folder = make_prepared([CHAT[0], CALLING], form="conversational")
    report = export("axolotl", folder, output=tmp_path / "out", allow_loss=True)
    assert (report.pairs, report.lines, report.left_out) == (2, 1, {"tool_calls": 1})


def test_lineage_and_kept_columns_are_no_loss(make_prepared, tmp_path):
    folder = make_prepared([{**TEXT[0], "lang": "en"}], keep=["lang"])
    export("kto", folder, output=tmp_path / "out")
    assert set(lines(tmp_path / "out" / "train.jsonl")[0]) == {"prompt", "completion", "label"}


def test_implicit_prompts_are_refused_where_trl_would_find_another_prompt(make_prepared, tmp_path):
    folder = make_prepared([TEXT[0], TEXT[1] | {"rejected": " yesterday"}])
    with pytest.raises(LossError, match="the responses begin alike"):
        export("trl", folder, output=tmp_path / "out", layout="implicit")
    report = export("trl", folder, output=tmp_path / "out", layout="implicit", allow_loss=True)
    assert report.left_out == {"prompt_boundary": 1}
    (line,) = lines(tmp_path / "out" / "train.jsonl")
    assert (line["chosen"], line["rejected"]) == ("Question 0? yes 0", "Question 0? no 0")


def test_text_is_refused_by_a_format_of_conversations(make_prepared, tmp_path):
    with pytest.raises(UsageError, match=r"openai holds conversations, and .* has text"):
        export("openai", make_prepared(TEXT), output=tmp_path / "out")


def test_rejected_unfinished_and_unknown_folders_are_refused(make_prepared, tmp_path):
    folder = make_prepared([*TEXT, {"prompt": "a", "chosen": "", "rejected": "b"}], name="rejected", max_invalid=0.0)
    with pytest.raises(PreparedError, match="was rejected"):
        export("trl", folder, output=tmp_path / "out")
    (tmp_path / "unfinished" / ".partial").mkdir(parents=True)
    with pytest.raises(PreparedError, match="is unfinished"):
        export("trl", tmp_path / "unfinished", output=tmp_path / "out")
    newer = make_prepared(TEXT, name="newer")
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(PreparedError, match="format version 99"):
        export("trl", newer, output=tmp_path / "out")


def test_an_export_is_replaced_only_if_wanted_and_never_replaces_a_prepared_folder(chat, tmp_path):
    export("trl", chat, output=tmp_path / "out")
    with pytest.raises(UsageError, match="finished"):
        export("trl", chat, output=tmp_path / "out")
    export("llamafactory", chat, output=tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "dataset_info.json").exists()
    export("trl", chat, output=tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "dataset_info.json").exists()
    with pytest.raises(UsageError, match="not ours"):
        export("trl", chat, output=chat, overwrite=True)


def test_the_same_pairs_give_the_same_bytes(chat, tmp_path):
    for name in ("a", "b"):
        export("trl", chat, output=tmp_path / name, file_format="parquet")
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"train.parquet", "export.json", "README.md"}


ROUND_TRIPS = [
    (name, layout, each.read_back) for name in EXPORTS for layout, each in load_export(name).layouts.items()
    if each.read_back
]  # fmt: skip


@pytest.mark.parametrize(("name", "layout", "source"), ROUND_TRIPS)
def test_conversations_are_read_back_to_the_same_ids(make_prepared, tmp_path, name, layout, source):
    carries = load_export(name).layouts[layout].carries
    rows = [*CHAT, LONG, *([CALLING] if {"tools", "tool_calls", "tool_call_ids"} <= carries else [])]
    folder = make_prepared(rows, form="conversational")
    report = export(name, folder, output=tmp_path / "out", layout=layout)
    assert report.left_out == {}
    convert(source, [tmp_path / "out"], output=tmp_path / "back", form="conversational")
    assert ids(tmp_path / "back") == ids(folder)


@pytest.mark.parametrize("name", ["trl", "kto", "openrlhf"])
@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_text_is_read_back_to_the_same_ids(make_prepared, tmp_path, name, file_format):
    _, layout = next(iter(load_export(name).layouts.items()))
    if file_format not in layout.file_formats:
        file_format = "jsonl"
    folder = make_prepared(TEXT)
    export(name, folder, output=tmp_path / "out", file_format=file_format)
    convert(layout.read_back, [tmp_path / "out"], output=tmp_path / "back", form="text")
    assert ids(tmp_path / "back") == ids(folder)


@pytest.mark.parametrize(("name", "layout", "source"), ROUND_TRIPS)
def test_an_export_keeps_its_own_rules(chat, tmp_path, name, layout, source):
    export(name, chat, output=tmp_path / "out", layout=layout)
    report = check_export(tmp_path / "out", name, layout=layout)
    assert (report.findings, report.valid) == ({}, report.lines)


def test_a_file_is_held_against_the_rules_of_a_format(tmp_path, write_rows, dpo_data):
    good = {
        "input": {"messages": [{"role": "user", "content": "Hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "No"}],
    }
    rows = [
        good,
        good | {"input": {"messages": [{"role": "assistant", "content": "Hi"}]}},
        good | {"preferred_output": [*good["preferred_output"], *good["preferred_output"]]},
        {"input": good["input"]},
    ]
    path = write_rows(tmp_path / "mine.jsonl", rows)
    ran = dpo_data("validate", path, "--as", "openai", "--json")
    report = json.loads(ran.out)
    assert ran.code == 1
    assert {code: found["lines"] for code, found in report["findings"].items()} == {
        "last_turn": 1, "missing_field": 1, "one_message": 1,
    }  # fmt: skip
    assert (report["lines"], report["valid"]) == (4, 1)
    assert report["warnings"] == [f"{tmp_path.name}/mine.jsonl has 4 lines; openai takes at least 10."]


def test_the_command_prints_the_balance(make_prepared, tmp_path, dpo_data):
    ran = dpo_data("export", "kto", make_prepared(TEXT), "-o", tmp_path / "out")
    assert ran.code == 0
    assert ran.out.startswith("3 pairs x 2 lines = 6 lines + 0 left out.\n")


def test_the_command_exits_with_1_on_a_loss(make_prepared, tmp_path, dpo_data):
    folder = make_prepared([TEXT[0] | {"chosen_score": 2, "rejected_score": 1}])
    ran = dpo_data("export", "kto", folder, "-o", tmp_path / "out")
    assert (ran.code, ran.out) == (1, "")
    assert "scores  1 pairs" in ran.err
    assert "--allow-loss" in ran.err


def test_an_export_json_with_rows_of_someone_else_is_read(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "export.json").write_text(json.dumps(TEXT))
    assert convert("pairs", [folder], output=tmp_path / "out", form="text").pairs == 3


def test_an_interrupted_export_leaves_an_earlier_one_as_it_was(chat, tmp_path):
    export("trl", chat, output=tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def stop(fraction, rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export("trl", chat, output=tmp_path / "out", overwrite=True, progress=stop)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before
    shutil.rmtree(tmp_path / "out")
