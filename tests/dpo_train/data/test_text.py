"""Conversations in memory: tokenized by the rules of the command line, with tools, calls, reasoning and arguments."""

import logging
from typing import Any

import datasets
import pytest
from toys import make_tiny_tokenizer
from transformers import PreTrainedTokenizerFast

from dpo_data.errors import UsageError
from dpo_train.data.text import RowReader

TEMPLATE = (
    "{{ '[quick] ' if quick else '' }}{% if tools %}[tools] {{ tools | tojson }}<eos>{% endif %}"
    "{% for m in messages %}[{{ m.role }}] "
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }}){% endfor %}<eos>"
    "{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
# Keys in alphabetical order: pyarrow 18 sorts them.
TOOLS = [{"function": {"name": "weather", "parameters": {"properties": {}, "type": "object"}}, "type": "function"}]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Lima"}}}
ROW = {
    "prompt": [{"role": "user", "content": "Weather in Lima?"}],
    "chosen": [{"role": "assistant", "content": "", "tool_calls": [CALL]}],
    "rejected": [{"role": "assistant", "content": "No idea.", "reasoning_content": "I am tired."}],
    "tools": TOOLS,
}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def texts(rows: list[dict], tokenizer: PreTrainedTokenizerFast, **options: object) -> list[tuple[str, str, str]]:
    reader = RowReader(tokenizer, **options)
    encoded = reader(datasets.Dataset.from_list(rows), name="the training set", split="train")
    return [
        tuple(tokenizer.decode(encoded[row][f"{side}_ids"]) for side in ("prompt", "chosen", "rejected"))
        for row in range(len(encoded))
    ]


def test_tools_calls_and_reasoning_are_those_of_apply_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    [(prompt, chosen, rejected)] = texts([ROW], tokenizer)
    assert prompt == tokenizer.apply_chat_template(ROW["prompt"], TOOLS, tokenize=False, add_generation_prompt=True)
    for side, response in (("chosen", chosen), ("rejected", rejected)):
        messages = ROW["prompt"] + ROW[side]
        assert prompt + response == tokenizer.apply_chat_template(messages, TOOLS, tokenize=False), side
    assert chosen == 'weather({"city": "Lima"})<eos>'
    assert rejected == "<think>I am tired.</think>No idea.<eos>"


def test_keys_that_arrow_adds_to_calls_of_other_rows_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    other = {"type": "function", "function": {"name": "search", "arguments": {"query": "cats"}}}
    searching = ROW | {"chosen": [{"role": "assistant", "content": "", "tool_calls": [other]}]}
    assert [chosen for _, chosen, _ in texts([ROW, searching], tokenizer)] == [
        'weather({"city": "Lima"})<eos>',
        'search({"query": "cats"})<eos>',
    ]


def test_arguments_of_the_template_come_from_the_reader_and_from_the_row(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = {name: ROW[name] for name in ("prompt", "rejected")} | {
        "chosen": [{"role": "assistant", "content": "Sun."}]
    }
    [(prompt, _, _)] = texts([plain], tokenizer, chat_template_kwargs={"quick": True})
    assert prompt == "[quick] [user] Weather in Lima?<eos>[assistant] "
    [(quick, _, _), (slow, _, _)] = texts(
        [plain | {"chat_template_kwargs": {"quick": True}}, plain | {"chat_template_kwargs": {"quick": False}}],
        tokenizer,
    )
    assert (quick, slow) == ("[quick] " + slow, "[user] Weather in Lima?<eos>[assistant] ")


def test_what_the_template_leaves_out_is_logged_once(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer.chat_template = TEMPLATE.replace("{% if m.reasoning_content %}", "{% if false %}")
    with caplog.at_level(logging.WARNING):
        texts([ROW] * 600, tokenizer)
    assert [record.getMessage() for record in caplog.records] == [
        'the training set: 600 pairs: the template leaves out the reasoning of a response: "I am tired.".'
    ]


def test_refused_conversations_are_dropped_with_the_templates_own_message(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.chat_template = (
        TEMPLATE + "{% if messages[0].role == 'system' %}{{ raise_exception('No system') }}{% endif %}"
    )
    system = ROW | {"prompt": [{"role": "system", "content": "Be kind."}, *ROW["prompt"]]}
    with pytest.warns(UserWarning, match=r"1 of 2 pairs are dropped: template_refused 1 \(No system\)"):
        assert len(texts([system, ROW], tokenizer)) == 1


def test_an_iterable_dataset_gives_the_same_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    dataset = datasets.Dataset.from_list([ROW])
    reader = RowReader(tokenizer)
    [row] = reader(dataset.to_iterable_dataset(), name="the training set", split="train")
    whole = reader(dataset, name="the training set", split="train")[0]
    for column in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert row[column] == list(whole[column]), column


@pytest.mark.parametrize(
    "prompt",
    [
        [{"role": "human", "content": "Hi"}],
        [{"from": "User", "value": "Hi"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    ],
)
def test_messages_in_other_notations_are_read_as_on_the_command_line(
    tokenizer: PreTrainedTokenizerFast, prompt: list[dict]
) -> None:
    chosen, rejected = [{"role": "gpt", "content": "Hello"}], [{"from": "model", "value": "Bye"}]
    [found] = texts([{"prompt": prompt, "chosen": chosen, "rejected": rejected}], tokenizer)
    assert found == ("[user] Hi<eos>[assistant] ", "Hello<eos>", "Bye<eos>")


def test_a_role_without_a_meaning_is_refused_with_its_row(tokenizer: PreTrainedTokenizerFast) -> None:
    other = ROW | {"prompt": [{"role": "narrator", "content": "Rain."}]}
    with pytest.raises(UsageError, match=r"row 1: .* prompt\.0\.role is 'narrator', which is not a known role\."):
        texts([ROW, other], tokenizer)


@pytest.mark.parametrize(
    "wrong", ["text", [{"content": "no role"}], None, [{"role": "user", "content": [{"type": "image"}]}]]
)
def test_rows_that_are_neither_text_nor_messages_throughout_are_refused(
    tokenizer: PreTrainedTokenizerFast, wrong: object
) -> None:
    columns = {name: [ROW[name]] for name in ("prompt", "chosen")} | {"rejected": [wrong]}
    with pytest.raises(
        UsageError, match="the training set, row 0: prompt, chosen and rejected are all text or all lists"
    ):
        RowReader(tokenizer)(datasets.Dataset.from_dict(columns), name="the training set", split="train")


def test_scores_and_origins_are_carried_to_the_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    scored = ROW | {"chosen_score": 2.0, "rejected_score": 0.5}
    rows = RowReader(tokenizer)(datasets.Dataset.from_list([scored]), name="the training set", split="train")
    assert rows[0]["score_margin"] == 1.5
    assert rows.origin(0) == "the training set, row 0"


TEXT = {"prompt": "q", "chosen": " yes", "rejected": " no"}


def test_names_of_pairs_may_be_numbers_and_scores_need_no_margin(tokenizer: PreTrainedTokenizerFast) -> None:
    row = TEXT | {"id": 7, "source": 3, "origin": 12, "chosen_score": 2, "rejected_score": 0.5}
    rows = RowReader(tokenizer)(datasets.Dataset.from_list([row]), name="the set", split="train")
    assert [rows[0][name] for name in ("id", "origin", "score_margin")] == ["7", "12", 1.5]


@pytest.mark.parametrize(
    ("column", "value"),
    [("rejected", None), ("id", [1]), ("origin", {"a": 1}), ("chosen_score", "2")],
)
def test_a_value_of_another_type_is_refused_with_its_row(
    tokenizer: PreTrainedTokenizerFast, column: str, value: Any
) -> None:
    rows = {name: [text] for name, text in TEXT.items()} | {"chosen_score": [1.0], "rejected_score": [1.0]}
    data = datasets.Dataset.from_dict(rows | {column: [value]})
    with pytest.raises(UsageError, match=f"the set, row 0: .*{column}"):
        RowReader(tokenizer)(data, name="the set", split="train")


def test_pairs_of_one_prompt_are_recognized(tokenizer: PreTrainedTokenizerFast) -> None:
    """The sampler places them in one step, where their prompt is computed once."""
    data = datasets.Dataset.from_list([TEXT, TEXT | {"prompt": "other"}, TEXT | {"chosen": " sure"}])
    prompts = RowReader(tokenizer)(data, name="the set", split="train").prompts
    assert (prompts[0] == prompts[2], prompts[0] == prompts[1]) == (True, False)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is black.", "The sky is"),
        ("\n\nHuman: Hi\n\nAssistant: Yes, I", "\n\nHuman: Hi\n\nAssistant: Yes, we", "\n\nHuman: Hi\n\nAssistant:"),
    ],
)
def test_a_prompt_may_be_the_beginning_of_both_texts(
    tokenizer: PreTrainedTokenizerFast, chosen: str, rejected: str, prompt: str
) -> None:
    data = datasets.Dataset.from_dict({"chosen": [chosen], "rejected": [rejected]})
    for each in (data, data.to_iterable_dataset()):
        [row] = RowReader(tokenizer)(each, name="the set", split="train")
        assert tokenizer.decode(row["prompt_ids"]) == prompt
        assert tokenizer.decode(row["chosen_ids"]) == chosen.removeprefix(prompt) + "<eos>"


def test_responses_without_a_common_beginning_have_no_prompt(tokenizer: PreTrainedTokenizerFast) -> None:
    data = datasets.Dataset.from_dict({"chosen": ["A b", "Yes"], "rejected": ["A c", "No"]})
    with pytest.raises(UsageError, match="row 1: there is no prompt"):
        RowReader(tokenizer)(data, name="the set", split="train")


def test_a_prompt_that_is_text_is_among_the_messages_of_both_responses(tokenizer: PreTrainedTokenizerFast) -> None:
    """As in ultrafeedback_binarized."""
    user = {"role": "user", "content": "Hi"}
    sides = {side: [user, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    reader = RowReader(tokenizer)
    [row] = reader(datasets.Dataset.from_list([{"prompt": "Hi"} | sides]), name="the set", split="train")
    assert tokenizer.decode(row["chosen_ids"]).startswith("chosen")
    with pytest.raises(UsageError, match="row 0: the text of prompt is not among the messages"):
        reader(datasets.Dataset.from_list([{"prompt": "Bye"} | sides]), name="the set", split="train")
