"""Shapes of rows that people have: the files in tests/fixtures/cases, and their pairs or the code that refuses them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden import read_lines, without_nulls

from dpo_data import convert, open_prepared
from dpo_data.prepared.manifest import Manifest

CASES = Path(__file__).parents[2] / "fixtures" / "cases"
FIELDS = ("prompt", "chosen", "rejected")
Turns = list[tuple[str, str]]


def converted(folder: Path, case: str, source: str = "pairs", **options: Any) -> tuple[Manifest, list[dict[str, Any]]]:
    """Return the manifest of a case, and its pairs without null fields."""
    manifest = convert(source, [CASES / case], output=folder / "out", max_invalid=1, split="train", **options)
    return manifest, [
        without_nulls({name: row[name] for name in (*FIELDS, "tools", "chat_template_kwargs") if name in row})
        for batch in open_prepared(folder / "out").batches("train")
        for row in batch.to_pylist()
    ]


def turns(pair: dict[str, Any]) -> tuple[Turns, Turns, Turns]:
    prompt, chosen, rejected = ([(m["role"], m["content"]) for m in pair[name]] for name in FIELDS)
    return prompt, chosen, rejected


def simple(prompt: Turns, chosen: str, rejected: str) -> tuple[Turns, Turns, Turns]:
    return prompt, [("assistant", chosen)], [("assistant", rejected)]


NILE = simple([("user", "Name a river.")], "The Nile.", "No.")


@pytest.mark.parametrize(
    ("case", "mapping", "expected"),
    [
        (
            "01",
            {},
            [
                simple(
                    [("user", "How should I keep bread fresh?")],
                    "Wrap it in a cloth and keep it dry.",
                    "Put it in water.",
                ),
                simple([("user", "Name a prime.")], "Seven.", "Nine."),
                simple(
                    [("user", "\u9762\u5305\u600e\u4e48\u4fdd\u5b58\uff1f")],
                    "\u7528\u5e03\u5305\u597d\uff0c\u653e\u5728\u5e72\u71e5\u5904\u3002",
                    "\u653e\u5728\u6c34\u91cc\u3002",
                ),
            ],
        ),
        (
            "04a",
            {},
            [
                simple(
                    [("system", "You are an auditor. Answer in one line."), ("user", "Is this safe?")],
                    "No: re-entrancy.",
                    "Yes.",
                )
            ],
        ),
        (
            "04b",
            {"prompt": "input"},
            [
                simple(
                    [("system", "You are an auditor. Answer in one line."), ("user", "Is this safe?")],
                    "No: re-entrancy.",
                    "Yes.",
                )
            ],
        ),
        (
            "04c",
            {"prompt": "question", "chosen": "response_chosen", "rejected": "response_rejected"},
            [
                simple(
                    [
                        ("system", "Be brief."),
                        ("user", "Hi"),
                        ("assistant", "Hello, what is it?"),
                        ("user", "And on Mars?"),
                    ],
                    "Thin air.",
                    "None.",
                )
            ],
        ),
        ("06", {"prompt": "messages"}, [simple([("system", "Be brief."), *NILE[0]], "The Nile.", "No.")]),
        ("09", {}, [NILE]),
        ("10a", {}, [NILE]),
        ("10b", {}, [NILE]),
    ],
)
def test_a_shape_gives_its_pairs_in_automatic_form(tmp_path, case, mapping, expected):
    manifest, pairs = converted(tmp_path, f"{case}/raw.jsonl", mapping=mapping)
    assert (manifest.form, list(map(turns, pairs))) == ("conversational", expected)
    assert manifest.warnings == {}


def test_a_transcript_in_the_prompt_is_text_or_turns(tmp_path):
    _, (pair,) = converted(tmp_path / "chat", "11/raw.jsonl", form="conversational")
    prompt = [("user", "Hi"), ("assistant", "Hello"), ("user", "Name a river.")]
    assert turns(pair) == simple(prompt, "The Nile.", "No.")
    manifest, (pair,) = converted(tmp_path / "text", "11/raw.jsonl")
    assert pair["prompt"] == "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a river.\n\nAssistant:"
    assert (manifest.form, pair["chosen"]) == ("text", " The Nile.")


def test_ignored_keys_of_messages_are_counted(tmp_path):
    manifest, _ = converted(tmp_path, "10a/raw.jsonl")
    assert manifest.unused_columns == {"chosen.weight": 1, "prompt.num_tokens": 1, "rejected.name": 1}


def test_a_rendered_prompt_stays_text(tmp_path):
    manifest, (pair,) = converted(tmp_path, "prerendered.jsonl")
    assert (manifest.form, pair["prompt"]) == (
        "text",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    )


HI, THERE = [("user", "Hi")], [("user", "Hi there")]
KIND = [("system", "Be kind"), *HI]
BYE, AWAY = ("Hello", "Bye"), ("Hello", "Go away")


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("Capital", simple(HI, *BYE)),
        ("Capital_prompt", simple(KIND, *AWAY)),
        ("bot", simple(HI, *BYE)),
        ("conversations", simple(HI, *BYE)),
        ("conversations_rc", simple(HI, *BYE)),
        ("conversations_user", simple(HI, *BYE)),
        ("developer", simple(KIND, *AWAY)),
        ("empty_list", ("missing_field", "prompt")),
        ("extra_keys", simple(HI, *AWAY)),
        ("from_value", simple(HI, *BYE)),
        ("function", simple([*HI, ("assistant", "calling"), ("tool", "42")], *AWAY)),
        ("gpt_human", simple(HI, *BYE)),
        ("human_prompt_only", simple(HI, *AWAY)),
        ("implicit", simple(THERE, *AWAY)),
        ("implicit_prompt_none", simple(THERE, *AWAY)),
        ("implicit_str", ("missing_field", "prompt")),
        ("ipython", simple([*HI, ("assistant", "calling"), ("tool", "42")], *AWAY)),
        ("kwargs_col", simple(THERE, *AWAY)),
        ("messages_dict_resp", simple(HI, *BYE)),
        ("model", simple(HI, *BYE)),
        ("name_key", simple(HI, *AWAY)),
        ("none_content", ("missing_field", "prompt.0.content")),
        ("none_resp", ("missing_field", "chosen.0.content")),
        ("observation", simple([*HI, ("assistant", "calling"), ("tool", "42")], *AWAY)),
        ("openai_human", simple(HI, *AWAY)),
        ("openai_input", simple(HI, *AWAY)),
        ("openai_reasoning", simple(THERE, *AWAY)),
        ("parts", simple(HI, *BYE)),
        ("parts_img", ("media_content", "prompt.0.content.0")),
        ("prompt_list_resp_str", simple(THERE, *BYE)),
        ("prompt_str_full", simple(THERE, *AWAY)),
        ("prompt_str_resp_list", simple(THERE, *AWAY)),
        ("prompt_system_in_resp", simple([("system", "S"), *THERE], *AWAY)),
        ("question_answer", simple([("user", "Hi?")], "A", "B")),
        ("reasoning", simple(THERE, *BYE)),
        ("single_dict", simple(HI, *BYE)),
        ("spaces", simple(HI, *AWAY)),
        ("sys_col", simple(KIND, *BYE)),
        ("thinking", simple(THERE, *BYE)),
        ("ties", simple([("user", "Hi?")], "A x", "B x")),
        ("tool", simple([*HI, ("assistant", "calling"), ("tool", "42")], *AWAY)),
        ("tool_calls", simple(HI, "", "Go away")),
        ("tools_col", simple(THERE, *AWAY)),
        ("typo", ("unknown_role", "prompt.0.role")),
        ("weight", simple(THERE, *AWAY)),
    ],
)
def test_roles_and_keys_give_messages_or_are_refused_with_a_code(tmp_path, file, expected):
    source = "openai-preference" if file.startswith("openai") else "pairs"
    mapping = {}
    if file.startswith("conversations"):
        mapping = {"prompt": "conversations"}
    elif file == "messages_dict_resp":
        mapping = {"prompt": "messages"}
    elif file == "question_answer":
        mapping = {"prompt": "question", "chosen": "answer_chosen", "rejected": "answer_rejected"}
    _, pairs = converted(tmp_path, f"roles/{file}.jsonl", source, mapping=mapping, form="conversational")
    if isinstance(expected[0], str):
        (row,) = read_lines(tmp_path / "out" / "quarantine" / "train.jsonl")
        assert (pairs, (row["code"], row["field"])) == ([], expected)
    else:
        assert list(map(turns, pairs)) == [expected]


def test_every_role_file_has_a_test():
    tested = {
        argument[0] for argument in test_roles_and_keys_give_messages_or_are_refused_with_a_code.pytestmark[0].args[1]
    }
    assert tested | {"mixed"} == {path.stem for path in (CASES / "roles").iterdir()}


@pytest.mark.parametrize("name", ["conversations", "conversations_rc", "conversations_user"])
def test_conversations_of_any_notation_are_read_by_llamafactory_too(tmp_path, name):
    _, pairs = converted(tmp_path, f"roles/{name}.jsonl", "llamafactory", form="conversational")
    assert list(map(turns, pairs)) == [simple(HI, *BYE)]


U, A, B = ({"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "A"), ("assistant", "B")))
HI_AB = ([("user", "Hi")], [("assistant", "A")], [("assistant", "B")])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"chosen": {"messages": [U, A]}, "rejected": {"messages": [U, B]}}, HI_AB),
        ({"prompt": {"messages": [U]}, "chosen": {"messages": [A]}, "rejected": {"messages": [B], "x": None}}, HI_AB),
        (
            {"system_prompt": "S", "prompt": "Hi", "chosen": "A", "rejected": "B"},
            ([("system", "S"), *HI_AB[0]], *HI_AB[1:]),
        ),
        (
            {"system": None, "system_message": "S", "prompt": "Hi", "chosen": "A", "rejected": "B"},
            ([("system", "S"), *HI_AB[0]], *HI_AB[1:]),
        ),
        (
            {"chat_history": [["1", "2"]], "prompt": "Hi", "chosen": "A", "rejected": "B"},
            ([("user", "1"), ("assistant", "2"), *HI_AB[0]], *HI_AB[1:]),
        ),
        *(
            ({"prompt": prompt, "chosen": f"{START} A", "rejected": f"{START} B"}, HI_AB)
            for START in ("\n\nHuman: Hi\n\nAssistant:", "Human: Hi\nAssistant:")
            for prompt in (START, "Hi", "", None)
        ),
    ],
)
def test_the_same_dialogue_in_other_shapes(tmp_path, write_rows, row, expected):
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", [row]), output=tmp_path / "o", form="conversational")
    (batch,) = open_prepared(tmp_path / "o").batches("train")
    assert turns(batch.to_pylist()[0]) == expected
    assert not manifest.warnings


def test_two_different_system_texts_are_refused_until_one_is_named(tmp_path, write_rows):
    row = {"system": "S", "system_prompt": "T", "prompt": "Hi", "chosen": "A", "rejected": "B"}
    raw = write_rows(tmp_path / "a.jsonl", [row])
    convert("pairs", raw, output=tmp_path / "out", max_invalid=1)
    (refused,) = open_prepared(tmp_path / "out").quarantined()
    assert (refused.code, refused.message) == ("wrong_type", "the row has system and system_prompt, which differ.")
    manifest = convert("pairs", raw, output=tmp_path / "named", mapping={"system": "system_prompt"})
    (batch,) = open_prepared(tmp_path / "named").batches("train")
    assert turns(batch.to_pylist()[0])[0] == [("system", "T"), ("user", "Hi")]
    assert list(manifest.warnings) == ["unused_prompt_column"]


def test_a_prompt_that_both_transcripts_repeat_is_not_in_the_responses_of_text(tmp_path, write_rows):
    start = "\n\nHuman: Hi\n\nAssistant:"
    row = {"prompt": start, "chosen": f"{start} A", "rejected": f"{start} B"}
    convert("pairs", write_rows(tmp_path / "a.jsonl", [row]), output=tmp_path / "out")
    (batch,) = open_prepared(tmp_path / "out").batches("train")
    assert [batch[name].to_pylist() for name in FIELDS] == [[start], [" A"], [" B"]]


def test_responses_that_only_begin_like_transcripts_stay_whole(tmp_path, write_rows):
    row = {"prompt": "Write a scene.", "chosen": "User: Hello?\n\nAssistant: Yes?", "rejected": "User: Bye."}
    convert("pairs", write_rows(tmp_path / "a.jsonl", [row]), output=tmp_path / "out", form="conversational")
    (batch,) = open_prepared(tmp_path / "out").batches("train")
    assert turns(batch.to_pylist()[0]) == simple([("user", row["prompt"])], row["chosen"], row["rejected"])


def test_messages_and_strings_may_be_in_one_file(tmp_path):
    manifest, pairs = converted(tmp_path, "roles/mixed.jsonl")
    assert list(map(turns, pairs)) == [simple(THERE, *AWAY), simple(HI, "A", "B")]
    assert manifest.form == "conversational"


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("reasoning", "pairs", {"role": "assistant", "content": "Hello", "reasoning_content": "hmm"}),
        ("thinking", "pairs", {"role": "assistant", "content": "Hello", "thinking": "hmm"}),
        (
            "openai_reasoning",
            "openai-preference",
            {"role": "assistant", "content": "Hello", "reasoning_content": "hmm"},
        ),
        (
            "tool_calls",
            "pairs",
            {
                "role": "assistant",
                "content": "",
                "tool_calls": '[{"type":"function","function":{"name":"f","arguments":{"a":1}}}]',
            },
        ),
    ],
)
def test_reasoning_and_tool_calls_are_kept(tmp_path, file, source, message):
    _, (pair,) = converted(tmp_path, f"roles/{file}.jsonl", source, form="conversational")
    assert pair["chosen"] == [message]


def test_tools_are_kept(tmp_path):
    _, (pair,) = converted(tmp_path, "roles/tools_col.jsonl", form="conversational")
    assert pair["tools"] == '[{"type":"function","function":{"name":"f","parameters":{}}}]'


def test_arguments_of_the_template_are_kept_and_part_of_the_prompt(tmp_path, write_rows):
    manifest, (pair,) = converted(tmp_path, "roles/kwargs_col.jsonl")
    assert pair["chat_template_kwargs"] == '{"enable_thinking":false}'
    assert "unused_prompt_column" not in manifest.warnings
    row = read_lines(CASES / "roles/kwargs_col.jsonl")[0]
    rows = [row, row | {"chat_template_kwargs": None}, row | {"chat_template_kwargs": '{"enable_thinking": true}'}]
    convert("pairs", write_rows(tmp_path / "raw.jsonl", rows), output=tmp_path / "three")
    (batch,) = open_prepared(tmp_path / "three").batches("train")
    assert batch["chat_template_kwargs"].to_pylist() == ['{"enable_thinking":false}', None, '{"enable_thinking":true}']
    assert len(set(batch["prompt_key"].to_pylist())) == len(set(batch["id"].to_pylist())) == 3


@pytest.mark.parametrize("value", ["yes", 1, [1], [["enable_thinking", True]]])
def test_arguments_of_the_template_are_an_object(tmp_path, write_rows, value):
    row = {**read_lines(CASES / "roles/kwargs_col.jsonl")[0], "chat_template_kwargs": value}
    convert("pairs", write_rows(tmp_path / "a.jsonl", [row]), output=tmp_path / "out", max_invalid=1)
    (refused,) = open_prepared(tmp_path / "out").quarantined()
    assert (refused.code, refused.field) == ("wrong_type", "chat_template_kwargs")
    assert "--map chat_template_kwargs=" in refused.hint


def test_the_same_rows_have_the_same_ids_in_json_lines_and_in_parquet(tmp_path, write_rows):
    def row(name: str, **arguments: Any) -> dict[str, Any]:
        # Keys in alphabetical order: pyarrow 18 sorts them.
        properties = {key: {"type": "string"} for key in arguments}
        function = {"name": name, "parameters": {"properties": properties, "type": "object"}}
        call = {"function": {"arguments": arguments, "name": name}, "type": "function"}
        return {
            "prompt": [{"role": "user", "content": f"{name}?"}],
            "chosen": [{"role": "assistant", "content": None, "tool_calls": [call]}],
            "rejected": [{"role": "assistant", "content": "No."}],
            "tools": [{"function": function, "type": "function"}],
            "chat_template_kwargs": {f"{name}_on": True},
        }

    rows = [row("weather", city="Lima"), row("search", query="cats")]
    write_rows(tmp_path / "train.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = []
    for suffix in ("jsonl", "parquet"):
        convert("pairs", tmp_path / f"train.{suffix}", output=tmp_path / suffix)
        (batch,) = open_prepared(tmp_path / suffix).batches("train")
        found.append(batch.drop_columns(["origin"]).to_pylist())
    assert found[0] == found[1]
    assert found[0][0]["chosen"][0]["tool_calls"] == (
        '[{"function":{"arguments":{"city":"Lima"},"name":"weather"},"type":"function"}]'
    )


def test_dialogues_of_messages_are_split_where_they_differ(tmp_path):
    _, pairs = converted(tmp_path, "prefix_conv.jsonl")
    (refused,) = read_lines(tmp_path / "out" / "quarantine" / "train.jsonl")
    assert (refused["line"], refused["code"]) == (1, "prompts_diverge")
    assert list(map(turns, pairs)) == [
        simple([("user", "sky?")], "The sky is blue", "The sky is blue and vast"),
        simple([("user", "x"), ("assistant", "y"), ("user", "z")], "1", "2"),
    ]


def test_transcripts_are_split_where_they_differ(tmp_path):
    manifest, pairs = converted(tmp_path / "text", "prefix_text.jsonl")
    assert manifest.form == "text"
    assert [tuple(pair.values()) for pair in pairs] == [
        ("\n\nHuman: sky?\n\nAssistant:", " The sky is blue", " The sky is blue and vast"),
        ("\r\n\r\nHuman: sky?\r\n\r\nAssistant:", " a", " b"),
        ("Human: sky?\n\nAssistant:", " a", " b"),
        ("\n\nHuman:sky?\n\nAssistant:", "a", "b"),
    ]
    assert manifest.quarantined_by_code == {"prompts_diverge": 1}
    _, pairs = converted(tmp_path / "chat", "prefix_text.jsonl", form="conversational")
    sky = [("user", "sky?")]
    assert list(map(turns, pairs)) == [
        simple(sky, "The sky is blue", "The sky is blue and vast"),
        *[simple(sky, "a", "b")] * 3,
    ]


def test_a_pair_of_messages_is_kept(tmp_path):
    manifest, pairs = converted(tmp_path, "one.jsonl")
    assert list(map(turns, pairs)) == [simple(HI, *AWAY)]
    assert manifest.columns["prompt"] == "list<struct<role: string, content: string>>"
