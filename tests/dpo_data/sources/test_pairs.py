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
    assert refused({"chosen": YES, "rejected": NO}, "conversational")[:2] == ("prompts_diverge", "")


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


@pytest.mark.parametrize("extra", [{"tool_calls": [{"name": "f"}]}, {"tools": []}, {"name": "Ann"}, {"weight": 0}])
def test_unsupported_fields_of_a_message_are_refused_and_not_dropped(extra):
    row = {"prompt": "Hi", "chosen": [{**YES[0], **extra}], "rejected": NO}
    (name,) = extra
    assert refused(row, "conversational") == (
        "wrong_type",
        f"chosen.0.{name}",
        f"chosen.0.{name}: extra inputs are not permitted.",
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
    assert manifest.quarantined_by_code == {"wrong_type": 1}


def test_a_mapping_of_an_unknown_field_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        convert("pairs", ["a.jsonl"], output=tmp_path / "out", mapping={"question": "q"})
    assert str(caught.value) == (
        "mapping=question=...: there is no such field.\n"
        "  Fields: prompt, chosen, rejected, chosen_score, rejected_score, margin."
    )
    with pytest.raises(UsageError, match="mapping= does not apply to hh-rlhf, whose columns are fixed"):
        convert("hh-rlhf", ["a.jsonl"], output=tmp_path / "out", mapping={"prompt": "q"})


def test_a_message_has_a_role():
    assert Message(role="tool", content="").content == ""
    row = {"prompt": "Hi", "chosen": [{"role": "", "content": "yes"}], "rejected": NO}
    assert refused(row, "conversational")[:2] == ("wrong_type", "chosen.0.role")
