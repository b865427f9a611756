"""pairs: any table with prompt, chosen and rejected, by name or mapping; nothing is guessed or dropped."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpo_data import convert, open_prepared
from dpo_data.errors import InputError, RowError, UsageError
from dpo_data.records import ConversationalPair, Message, TextPair
from dpo_data.sources.pairs import adapt, lookup
from dpo_data.sources.source import SourceOptions


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def texts(row: dict[str, Any], **mapping: str) -> tuple[str, str, str]:
    pair = adapt(row, SourceOptions("text", mapping))
    assert isinstance(pair, TextPair)
    return pair.texts


def messages(row: dict[str, Any], **mapping: str) -> list[list[tuple[str, str]]]:
    """Return role and content of prompt, chosen and rejected."""
    pair = adapt(row, SourceOptions("conversational", mapping))
    assert isinstance(pair, ConversationalPair)
    return [[(m.role, m.content) for m in side] for side in (pair.prompt, pair.chosen, pair.rejected)]


def refused(row: dict[str, Any], form: str = "text", **mapping: str) -> tuple[str, str, str]:
    with pytest.raises(RowError) as caught:
        adapt(row, SourceOptions(form, mapping))
    return caught.value.code, caught.value.field, caught.value.message


# Columns.


def test_columns_are_found_by_their_names():
    assert texts({"id": 1, "rejected": "c", "chosen": "b", "prompt": "a"}) == ("a", "b", "c")


def test_columns_are_found_by_a_mapping():
    row = {"question": "a", "good": "b", "bad": "c", "prompt": "not this"}
    assert texts(row, prompt="question", chosen="good", rejected="bad") == ("a", "b", "c")


def test_a_dotted_path_reaches_into_nested_columns():
    row = {"q": {"text": "a"}, "answers": [{"text": "c"}, {"text": "b"}]}
    assert texts(row, prompt="q.text", chosen="answers.1.text", rejected="answers.0.text") == ("a", "b", "c")


def test_a_column_whose_name_has_dots_takes_precedence_over_a_path():
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert lookup({"a": {"b": 2}}, "a.b") == 2


@pytest.mark.parametrize("path", ["b", "a.c", "a.b.c", "a.0", "l.x", "l.2", "l.-1", "n.x"])
def test_a_path_that_leads_nowhere_finds_nothing(path):
    assert lookup({"a": {"b": "x"}, "l": [1, 2], "n": None}, path) is None


def test_missing_and_null_fields_are_named_as_in_the_table():
    row = {"prompt": "a", "good": None, "rejected": "c"}
    assert refused(row, chosen="good") == ("missing_field", "good", "good is null.")
    message = "best is missing; the row has prompt, good, rejected."
    assert refused(row, chosen="best") == ("missing_field", "best", message)
    assert refused({"prompt": None, "chosen": "b", "rejected": "c"}) == ("missing_field", "prompt", "prompt is null.")
    assert refused({"chosen": "b", "rejected": "c"}, prompt="q")[:2] == ("missing_field", "q")


# Text.


def test_text_is_kept_unchanged():
    assert texts({"prompt": " a\n", "chosen": "\tb ", "rejected": ""}) == (" a\n", "\tb ", "")


@pytest.mark.parametrize("value", [1, 1.5, True, {"a": "b"}])
def test_values_that_are_not_text_are_refused(value):
    assert refused({"prompt": "a", "chosen": value, "rejected": "c"})[0] == "wrong_type"
    assert refused({"prompt": "a", "chosen": "b", "rejected": value})[0] == "wrong_type"
    assert refused({"prompt": value, "chosen": "b", "rejected": "c"}) == (
        "wrong_type",
        "prompt",
        f"prompt is {type(value).__name__}, but the responses are strings.",
    )


def test_without_a_prompt_it_is_the_shared_turns_of_transcripts():
    row = {"chosen": "\n\nHuman: Hi\n\nAssistant: yes", "rejected": "\n\nHuman: Hi\n\nAssistant: yesterday"}
    assert texts(row) == ("\n\nHuman: Hi\n\nAssistant:", " yes", " yesterday")
    assert messages(row) == [[("user", "Hi")], [("assistant", "yes")], [("assistant", "yesterday")]]


def test_without_a_prompt_plain_text_is_never_split_at_a_shared_prefix():
    message = "there is no prompt, and chosen and rejected are not transcripts that contain one."
    assert refused({"chosen": "I say yes", "rejected": "I say no"}) == ("missing_field", "prompt", message)


def test_in_conversational_form_each_text_becomes_one_message():
    assert messages({"prompt": "a", "chosen": "b", "rejected": "c"}) == [
        [("user", "a")],
        [("assistant", "b")],
        [("assistant", "c")],
    ]


# Scores.


@pytest.mark.parametrize(
    ("value", "score"), [(9, 9.0), (9.5, 9.5), ("9.5", 9.5), (" 9 ", 9.0), ("", None), (" ", None), (None, None)]
)
def test_scores_are_numbers_or_numeric_strings(value, score):
    pair = adapt({"prompt": "a", "chosen": "b", "rejected": "c", "chosen_score": value}, SourceOptions("text"))
    assert (pair.chosen_score, pair.rejected_score) == (score, None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("high", "rejected_score is 'high', not a number."),
        (True, "rejected_score is bool, not a number."),
        ([1], "rejected_score is list, not a number."),
        (10**400, "rejected_score is too large for a number."),
    ],
)
def test_scores_that_are_not_numbers_are_refused(value, message):
    row = {"prompt": "a", "chosen": "b", "rejected": "c", "rejected_score": value}
    assert refused(row) == ("wrong_type", "rejected_score", message)


def test_scores_are_mapped_and_kept_in_both_forms(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "s": {"x": 2, "y": "1"}}])
    mapping = {"chosen_score": "s.x", "rejected_score": "s.y"}
    for form in ("text", "conversational"):
        convert("pairs", [raw], output=tmp_path / form, form=form, mapping=mapping, split="train")
        (batch,) = open_prepared(tmp_path / form).batches("train")
        assert batch.select(["chosen_score", "rejected_score"]).to_pylist() == [
            {"chosen_score": 2.0, "rejected_score": 1.0}
        ]


# Messages.

YES, NO = [assistant("yes")], [assistant("no")]
PAIR = [[("user", "Hi")], [("assistant", "yes")], [("assistant", "no")]]


def test_messages_are_kept_unchanged():
    system = {"role": "system", "content": "Be brief."}
    prompt = [system, user("Hi"), assistant("Yes?"), user("Who?")]
    assert messages({"prompt": prompt, "chosen": YES, "rejected": NO}) == [
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Who?")],
        [("assistant", "yes")],
        [("assistant", "no")],
    ]


def test_a_text_prompt_with_message_responses_is_a_user_message():
    assert messages({"prompt": "Hi", "chosen": YES, "rejected": NO}) == PAIR


def test_a_prompt_that_both_sides_repeat_is_removed_from_them():
    assert messages({"prompt": "Hi", "chosen": [user("Hi"), *YES], "rejected": [user("Hi"), *NO]}) == PAIR
    prompt = [user("Hi"), assistant("Yes?"), user("Who?")]
    assert messages({"prompt": prompt, "chosen": [*prompt, *YES], "rejected": [*prompt, *NO]}) == [
        [("user", "Hi"), ("assistant", "Yes?"), ("user", "Who?")],
        [("assistant", "yes")],
        [("assistant", "no")],
    ]


def test_a_prompt_that_only_one_side_repeats_is_refused():
    message = "only one of chosen and rejected starts with the prompt."
    row = {"prompt": "Hi", "chosen": [user("Hi"), *YES], "rejected": NO}
    assert refused(row, "conversational") == ("prompts_diverge", "prompt", message)


def test_without_a_prompt_it_is_the_shared_messages_before_an_assistant_message():
    assert messages({"chosen": [user("Hi"), *YES], "rejected": [user("Hi"), *NO]}) == PAIR
    shared = [user("Hi"), assistant("One moment.")]
    assert messages({"chosen": [*shared, *YES], "rejected": [*shared, *NO]}) == [
        [("user", "Hi"), ("assistant", "One moment.")],
        [("assistant", "yes")],
        [("assistant", "no")],
    ]


def test_without_a_prompt_identical_or_nested_sides_each_keep_a_response():
    whole = [user("Hi"), *YES]
    assert messages({"chosen": whole, "rejected": whole}) == [PAIR[0], PAIR[1], PAIR[1]]
    assert messages({"chosen": whole, "rejected": [*whole, *NO]}) == [PAIR[0], PAIR[1], [*PAIR[1], *PAIR[2]]]


def test_messages_with_different_questions_are_refused():
    row = {"chosen": [user("Hi"), *YES], "rejected": [user("Ho"), *NO]}
    message = "chosen and rejected share no message before an assistant message."
    assert refused(row, "conversational") == ("prompts_diverge", "", message)
    assert refused({"chosen": YES, "rejected": NO}, "conversational")[:2] == ("missing_field", "prompt")


def test_responses_end_with_an_assistant_message_and_have_no_user_message():
    row = {"prompt": "Hi", "chosen": [*YES, user("Go on")], "rejected": NO}
    assert refused(row, "conversational") == (
        "no_response",
        "chosen",
        "chosen does not end with an assistant message.",
    )
    row = {"prompt": "Hi", "chosen": YES, "rejected": []}
    assert refused(row, "conversational")[:2] == ("no_response", "rejected")
    row = {"prompt": "Hi", "chosen": YES, "rejected": [*NO, user("Go on"), *NO]}
    assert refused(row, "conversational") == (
        "prompts_diverge",
        "rejected",
        "rejected has user messages after the shared prompt.",
    )


def test_a_broken_message_is_named_by_its_path():
    row = {"prompt": [user("Hi"), {"role": "user"}], "chosen": YES, "rejected": NO}
    assert refused(row, "conversational") == ("missing_field", "prompt.1.content", "prompt.1.content is missing.")
    row = {"prompt": "Hi", "chosen": [{"role": "assistant", "content": 7}], "rejected": NO}
    assert refused(row, "conversational")[:2] == ("wrong_type", "chosen.0.content")
    row = {"prompt": "Hi", "chosen": ["yes"], "rejected": NO}
    assert refused(row, "conversational")[:2] == ("wrong_type", "chosen.0")


def test_messages_are_refused_in_text_form(tmp_path, write_rows):
    row = {"prompt": "Hi", "chosen": YES, "rejected": NO}
    assert refused(row)[0] == "wrong_type"
    with pytest.raises(InputError) as caught:
        convert("pairs", [write_rows(tmp_path / "a.jsonl", [row])], output=tmp_path / "out", form="text")
    assert str(caught.value) == (
        f"{tmp_path.name}/a.jsonl: the responses are lists of messages, not text.\n"
        "  Convert them with --form conversational."
    )


def test_a_single_row_of_messages_among_texts_is_quarantined(tmp_path, write_rows, monkeypatch):
    rows = [{"prompt": f"Question {n}", "chosen": "yes", "rejected": "no"} for n in range(20)]
    rows[7] = {"prompt": "Hi", "chosen": YES, "rejected": NO}
    raw = write_rows(tmp_path / "a.jsonl", rows)
    monkeypatch.setattr("dpo_data.readers.rows.CHUNK_BYTES", 8)  # every row opens a chunk
    manifest = convert("pairs", [raw], output=tmp_path / "out", form="text")
    assert (manifest.pairs, manifest.quarantined_by_code) == (19, {"wrong_type": 1})


def test_null_fields_that_parquet_adds_are_not_extra_fields(tmp_path):
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(pa.string()))])
    rows = [
        {"prompt": [user("Hi")], "chosen": YES, "rejected": NO},
        {"prompt": [user("Hi")], "chosen": [{**YES[0], "tool_calls": ["f"]}], "rejected": NO},
    ]
    table = pa.Table.from_pylist(rows, pa.schema([(name, pa.list_(message)) for name in rows[0]]))
    pq.write_table(table, tmp_path / "a.parquet")
    manifest = convert(
        "pairs", [tmp_path / "a.parquet"], output=tmp_path / "out", form="conversational", max_invalid=1, split="train"
    )
    (batch,) = open_prepared(tmp_path / "out").batches("train")
    assert batch.select(["prompt", "chosen", "rejected", "origin"]).to_pylist() == [
        {"prompt": [user("Hi")], "chosen": YES, "rejected": NO, "origin": f"{tmp_path.name}/a.parquet:1"}
    ]
    # The string is not a tool call.
    assert manifest.quarantined_by_code == {"wrong_type": 1}


# System text, history, input and tools.


def test_a_system_text_is_the_first_message():
    row = {"system": "Be kind.", "prompt": "Hi", "chosen": "Yes", "rejected": "No"}
    assert messages(row)[0] == [("system", "Be kind."), ("user", "Hi")]
    row = {"system": "Be kind.", "prompt": [user("Hi")], "chosen": YES, "rejected": NO}
    assert messages(row)[0] == [("system", "Be kind."), ("user", "Hi")]
    row = {"system": "Be kind.", "chosen": [user("Hi"), *YES], "rejected": [user("Hi"), *NO]}
    assert messages(row)[0] == [("system", "Be kind."), ("user", "Hi")]


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_an_empty_system_text_is_none(nothing):
    assert messages({"system": nothing, "prompt": "Hi", "chosen": "Yes", "rejected": "No"})[0] == [("user", "Hi")]


def test_in_text_form_a_system_text_precedes_the_prompt():
    row = {"system": "Be kind.", "prompt": "Say hi.\n", "chosen": "Hi", "rejected": "No"}
    assert texts(row) == ("Be kind.\n\nSay hi.\n", "Hi", "No")
    row |= {"prompt": "\n\nHuman: Hi\n\nAssistant:"}
    assert texts(row)[0] == "Be kind.\n\nHuman: Hi\n\nAssistant:"


def test_the_same_system_text_is_not_repeated_and_another_one_is_refused():
    row = {
        "system": "Be kind.",
        "prompt": [{"role": "system", "content": "Be kind."}, user("Hi")],
        "chosen": YES,
        "rejected": NO,
    }
    assert messages(row)[0] == [("system", "Be kind."), ("user", "Hi")]
    assert refused(row | {"system": "Be brief."}, "conversational")[:2] == ("wrong_type", "system")


@pytest.mark.parametrize(
    "history",
    [
        [["Hi", "Yes?"]],
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}],
        [{"question": "Hi", "answer": "Yes?"}],
        [{"user": "Hi", "assistant": "Yes?"}],
        ["Hi", "Yes?"],
        '[["Hi", "Yes?"]]',
        "[['Hi', 'Yes?']]",
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]',
    ],
)
def test_a_history_of_pairs_or_turns_precedes_the_prompt(history):
    row = {"system": "Be kind.", "history": history, "prompt": "Who?", "chosen": "I", "rejected": "You"}
    assert messages(row)[0] == [("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Who?")]


@pytest.mark.parametrize("nothing", [None, [], "", "[]"])
def test_an_empty_history_is_none(nothing):
    assert messages({"history": nothing, "prompt": "Hi", "chosen": "Yes", "rejected": "No"})[0] == [("user", "Hi")]


@pytest.mark.parametrize("history", ["long ago", 7, [["Hi"]], [["Hi", None]], ["Hi"], [{"q": "Hi"}], {"a": 1}])
def test_another_history_is_refused_with_the_way_to_leave_it_out(history):
    row = {"history": history, "prompt": "Hi", "chosen": "Yes", "rejected": "No"}
    with pytest.raises(RowError) as caught:
        adapt(row, SourceOptions("conversational", {}))
    assert caught.value.code == "wrong_type"
    assert caught.value.hint == "If history is not part of the conversation, leave it out: --map history="
    assert messages(row, history="")[0] == [("user", "Hi")]


def test_history_and_tools_have_no_text_form():
    row = {"prompt": "Hi", "chosen": "Yes", "rejected": "No"}
    assert refused(row | {"history": [["Hi", "Yes?"]]}) == ("no_text_form", "history", "the row has history.")
    assert refused(row | {"tools": [{"name": "f"}]}) == ("no_text_form", "tools", "the row has tools.")


def test_an_input_is_appended_to_an_instruction_and_to_nothing_else():
    row = {"instruction": "Translate.", "input": "Hallo", "chosen": "Hello", "rejected": "Bye"}
    assert messages(row, prompt="instruction")[0] == [("user", "Translate.\nHallo")]
    assert messages(row | {"input": ""}, prompt="instruction")[0] == [("user", "Translate.")]
    assert messages(row, prompt="instruction", input="")[0] == [("user", "Translate.")]
    row["prompt"] = "Translate Hallo."
    assert messages(row)[0] == [("user", "Translate Hallo.")]
    assert messages(row, input="input")[0] == [("user", "Translate Hallo.\nHallo")]


def test_tools_are_a_list_or_the_text_of_one():
    tools = [{"type": "function", "function": {"name": "f"}}]
    stored = '[{"type":"function","function":{"name":"f"}}]'
    for value in (tools, stored, str(tools)):
        pair = adapt(
            {"prompt": "Hi", "chosen": "Yes", "rejected": "No", "tools": value}, SourceOptions("conversational")
        )
        assert isinstance(pair, ConversationalPair)
        assert pair.tools == stored


def test_a_column_that_is_mapped_to_one_field_is_not_used_for_another():
    row = {"system": "Hi", "history": "Who?", "chosen": "I", "rejected": "You"}
    assert messages(row, prompt="system", history="")[0] == [("user", "Hi")]
    assert messages(row, prompt="history")[0] == [("system", "Hi"), ("user", "Who?")]


def test_rows_that_differ_in_the_system_text_alone_are_no_contradiction(tmp_path, write_rows):
    row = {"system": "Agree.", "prompt": "Is it so?", "chosen": "Yes", "rejected": "No"}
    other = row | {"system": "Disagree.", "chosen": "No", "rejected": "Yes"}
    raw = write_rows(tmp_path / "train.jsonl", [row, other])
    for form in ("text", "conversational"):
        manifest = convert("pairs", raw, output=tmp_path / form, form=form)
        assert set(manifest.warnings) <= {"glued_text"}
    unlike = convert("pairs", raw, output=tmp_path / "without", mapping={"system": ""})
    assert set(unlike.warnings) == {"contradiction", "unused_prompt_column"}


def test_a_column_that_may_belong_to_the_prompt_is_warned_about(tmp_path, write_rows):
    rows = [
        {
            "prompt": f"Q{n}?",
            "Context": "By the sea." if n else "",
            "question": f"Q{n}",
            "source": "x",
            "chosen": "a",
            "rejected": "b",
        }
        for n in range(3)
    ]
    manifest = convert("pairs", write_rows(tmp_path / "a.jsonl", rows), output=tmp_path / "out")
    assert manifest.unused_columns == {"Context": 3, "question": 3, "source": 3}
    # Not the empty one, and not the question, which the prompt contains.
    warning = manifest.warnings["unused_prompt_column"]
    assert (warning.rows, warning.examples[0]) == (
        2,
        f"{tmp_path.name}/a.jsonl:2: the column Context is not in the prompt.",
    )


def test_a_field_without_which_there_is_no_pair_cannot_be_left_out(tmp_path):
    with pytest.raises(UsageError, match="mapping=prompt=: must be FIELD=COLUMN"):
        convert("pairs", ["a.jsonl"], output=tmp_path / "out", mapping={"prompt": ""})


# Columns of messages.


def test_tool_calls_after_the_first_rows_are_refused_where_those_have_none(tmp_path, write_rows):
    plain = {"prompt": "Hi", "chosen": YES, "rejected": NO}
    call = plain | {"chosen": [assistant("") | {"tool_calls": [{"name": "f"}]}]}
    late = write_rows(tmp_path / "late.jsonl", [plain] * 1000 + [call])
    manifest = convert("pairs", late, output=tmp_path / "late")
    assert manifest.quarantined_by_code == {"unsupported_field": 1}
    early = write_rows(tmp_path / "early.jsonl", [call, plain])
    manifest = convert("pairs", early, output=tmp_path / "early")
    assert (manifest.pairs, manifest.columns["tools"]) == (2, "string")


def test_a_mapping_of_an_unknown_field_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        convert("pairs", ["a.jsonl"], output=tmp_path / "out", mapping={"question": "q"})
    assert str(caught.value) == (
        "mapping=question=...: there is no such field.\n"
        "  Fields: prompt, chosen, rejected, chosen_score, rejected_score, margin, system, history, input, tools, "
        "chat_template_kwargs, id."
    )
    with pytest.raises(UsageError, match="mapping= does not apply to hh-rlhf, whose columns are fixed"):
        convert("hh-rlhf", ["a.jsonl"], output=tmp_path / "out", mapping={"prompt": "q"})


def test_a_message_has_a_role():
    assert Message(role="tool", content="").content == ""
    row = {"prompt": "Hi", "chosen": [{"role": "", "content": "yes"}], "rejected": NO}
    assert refused(row, "conversational")[:2] == ("wrong_type", "chosen.0.role")
