"""Messages in the notations of other tools."""

import json
import re
from typing import Any

import numpy as np
import pytest

from dpo_data.errors import RowError
from dpo_data.records import Message
from dpo_data.sources.messages import ROLES, ignored_keys, messages, tools_in, written_messages

HI = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It's \"me\": [1, 2]\n{'role': 3}"}]


def read(*values: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages(list(values), "m")]


def refused(value: Any) -> tuple[str, str]:
    with pytest.raises(RowError) as caught:
        messages(value, "m")
    return caught.value.code, caught.value.field


# Roles and keys.


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (["system", "System", "developer"], "system"),
        (["user", "User", "human", "Human", " user", "prompter"], "user"),
        (["assistant", "Assistant", "gpt", "bot", "model", "AI", "ai", "chatbot"], "assistant"),
        (["tool", "function", "observation", "ipython", "tool_response"], "tool"),
    ],
)
def test_usual_names_of_roles_are_mapped(names, role):
    assert read(*({"role": name, "content": "x"} for name in names)) == [(role, "x")] * len(names)
    assert read(*({"from": name, "value": "x"} for name in names)) == [(role, "x")] * len(names)


@pytest.mark.parametrize("name", ["usr", "narrator", "Assistent", "0"])
def test_other_roles_are_refused(name):
    assert refused([HI[0], {"role": name, "content": "x"}]) == ("unknown_role", "m.1.role")
    assert refused([{"from": name, "value": "x"}]) == ("unknown_role", "m.0.from")


def test_every_role_of_the_table_is_one_of_chat_templates():
    assert set(ROLES.values()) == {"system", "user", "assistant", "tool"}
    assert all(name == name.lower() for name in ROLES)


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value"), ("role", "text"), ("role", "value")])
def test_messages_have_their_keys_in_several_notations(keys):
    assert read(dict(zip(keys, ("human", "Hi"), strict=True))) == [("user", "Hi")]


def test_one_message_may_stand_for_a_list():
    assert messages({"role": "user", "content": "Hi"}, "m") == [Message(role="user", content="Hi")]


@pytest.mark.parametrize(
    ("value", "code", "field"),
    [
        ("Hi", "wrong_type", "m"),
        (7, "wrong_type", "m"),
        (["Hi"], "wrong_type", "m.0"),
        ([{"content": "Hi"}], "missing_field", "m.0.role"),
        ([{"role": None, "content": "Hi"}], "missing_field", "m.0.role"),
        ([{"role": 3, "content": "Hi"}], "wrong_type", "m.0.role"),
        ([{"role": "", "content": "Hi"}], "wrong_type", "m.0.role"),
        ([{"role": "user"}], "missing_field", "m.0.content"),
        ([{"role": "user", "content": None}], "missing_field", "m.0.content"),
        ([{"role": "user", "content": 7}], "wrong_type", "m.0.content"),
        ([{"role": "assistant", "tool_calls": "f"}], "wrong_type", "m.0.tool_calls"),
    ],
)
def test_other_values_are_refused_with_their_path(value, code, field):
    assert refused(value) == (code, field)


# Tools and reasoning.


def test_tool_calls_results_and_reasoning_are_kept():
    call = [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    assert messages(
        [
            {"role": "assistant", "content": None, "tool_calls": call, "reasoning_content": "hmm"},
            {"role": "tool", "content": "4", "tool_call_id": "1", "name": "f"},
            {"role": "assistant", "content": "Four.", "thinking": "well", "tool_calls": None},
        ],
        "m",
    ) == [
        Message(
            role="assistant",
            content="",
            tool_calls='[{"type":"function","function":{"name":"f","arguments":{"a":1}}}]',
            reasoning_content="hmm",
        ),
        Message(role="tool", content="4", tool_call_id="1", name="f"),
        Message(role="assistant", content="Four.", thinking="well"),
    ]


def test_calls_of_sharegpt_and_of_the_former_api_become_tool_calls():
    call = '[{"type":"function","function":{"name":"f","arguments":"{}"}}]'
    former = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}
    sharegpt = {"from": "function_call", "value": '{"name": "f", "arguments": "{}"}'}
    assert messages([former, sharegpt], "m") == [Message(role="assistant", content="", tool_calls=call)] * 2
    assert refused([{"from": "function_call", "value": "f()"}]) == ("wrong_type", "m.0.value")


def test_tools_may_come_with_a_message():
    tools = [{"type": "function"}]
    assert tools_in([{"role": "system", "content": "", "tools": tools}]) == tools
    assert tools_in([{"role": "system", "content": "", "tools": []}]) is None
    assert tools_in("Hi") is None


# Contents in parts.


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": "Na"}, {"type": "text", "text": "me"}],
        [{"type": "input_text", "text": "Na"}, {"type": "output_text", "text": "me"}],
        [{"type": "text", "text": "Name", "image": None, "mimeType": None}],
        [{"type": "text", "value": "Name"}],
        [{"text": "Name"}],
        ["Na", "me"],
    ],
)
def test_text_parts_are_joined(parts):
    assert read({"role": "user", "content": parts}) == [("user", "Name")]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ([{"type": "image", "url": "x"}, {"type": "text", "text": "Hi"}], "media_content"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "media_content"),
        ([{"type": "input_audio", "input_audio": {}}], "media_content"),
        ([{"type": "video"}], "media_content"),
        ([{"type": "text", "text": "", "image": "x"}], "media_content"),
        ([{"type": "text"}], "missing_field"),
        ([{"type": "table", "text": "x"}], "wrong_type"),
        ([7], "wrong_type"),
    ],
)
def test_other_parts_are_refused(content, code):
    assert refused([{"role": "user", "content": content}])[0] == code


def test_a_message_with_images_beside_its_content_is_refused():
    assert refused([{"role": "user", "content": "Hi", "images": ["a.png"]}]) == ("media_content", "m.0.images")
    assert read({"role": "user", "content": "Hi", "images": [], "audio": None}) == [("user", "Hi")]


# Messages written as text.


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(HI),
        json.dumps(HI, indent=2),
        repr(HI),
        str(np.array(HI, dtype=object)),
        repr(np.array(HI, dtype=object)),
        f" {HI!r} ",
    ],
    ids=["json", "indented json", "python", "numpy str", "numpy repr", "spaces"],
)
def test_messages_in_the_cell_of_a_table_are_parsed(text):
    assert written_messages(text, "m") == HI
    assert [(message.role, message.content) for message in messages(text, "m")] == [tuple(m.values()) for m in HI]


def test_one_message_and_nested_arrays_are_parsed_too():
    assert written_messages(repr(HI[0]), "m") == HI[0]
    nested = "[{'content': array([{'type': 'text', 'text': 'a) b('}], dtype=object), 'role': 'user'}]"
    assert written_messages(nested, "m") == [{"content": [{"type": "text", "text": "a) b("}], "role": "user"}]


@pytest.mark.parametrize(
    "text",
    [
        "Hi",
        "",
        "[1, 2] sorted",
        "{'a': 1}",
        "[{'name': 'x'}]",
        '[{"role": "user", "content": "Hi"}] is a list, why?',
        None,
        7,
    ],
)
def test_other_values_are_left_as_they_are(text):
    assert written_messages(text, "m") == text


@pytest.mark.parametrize("text", ['[{"role": "user", "content": "H', "[{'role': 'user', 'content': open('x')}]"])
def test_messages_that_cannot_be_parsed_are_refused_and_not_trained_on_as_text(text):
    with pytest.raises(RowError, match="begins as messages do, but it cannot be parsed"):
        written_messages(text, "m")


def test_nothing_is_executed(tmp_path):
    victim = tmp_path / "x"
    text = f"[{{'role': 'user', 'content': __import__('pathlib').Path('{victim}').touch()}}]"
    with pytest.raises(RowError):
        written_messages(text, "m")
    assert not victim.exists()


# Keys that are ignored.


def test_ignored_keys_are_named_by_column_without_positions():
    row = {
        "prompt": [
            {"role": "user", "content": "Hi", "id": 1},
            {"role": "user", "content": "Ho", "id": 2, "name": "Jo"},
        ],
        "chosen": {"from": "gpt", "value": "Yes", "weight": 0, "refusal": None},
        "rejected": json.dumps([{"role": "tool", "content": "No", "name": "f", "ts": 1}]),
        "input": {"messages": [{"role": "user", "content": "Hi", "date": "x"}]},
        "other": [{"role": "user", "content": "Hi", "x": 1}],
    }
    found = list(ignored_keys(row, ["prompt", "chosen", "rejected", "input"]))
    assert found == ["prompt.id", "prompt.name", "chosen.weight", "rejected.ts", "input.messages.date"]


def test_a_text_that_is_no_messages_has_no_ignored_keys():
    assert list(ignored_keys({"prompt": "Hi", "chosen": "[{'role': ", "rejected": 7}, ["prompt", "chosen"])) == []


def test_long_texts_are_not_searched_for_messages():
    text = "[ " * 100_000 + re.escape("x") * 1000
    assert written_messages(text, "m") == text


@pytest.mark.parametrize(
    "text",
    [
        '{"content": "x"}',
        '{"text": "x", "n": 1}',
        '[{"value": 3}, {"value": 4}]',
        '{"from": "Lima", "to": "Quito"}',
        '{"text": "cut off by a lim',
    ],
)
def test_an_answer_in_json_that_is_not_a_message_stays_text(text):
    assert written_messages(text, "m") == text
