"""Conversations as chat templates take them: nulls, missing contents, and the spellings of calls and contents."""

import pytest

from dpo_data.tokens.messages import Conversation, joined, spellings, stored_conversation

ASK = {"role": "user", "content": "Weather in Lima?"}


def calling(arguments: object) -> dict:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def arguments_of(conversation: Conversation) -> object:
    return conversation.chosen[0]["tool_calls"][0]["function"]["arguments"]


def test_keys_that_parquet_adds_are_removed_from_calls_tools_and_messages():
    added = {
        "name": None,
        "tool_calls": '[{"function": {"name": "weather", "arguments": {"city": "Lima", "q": null}}}]',
    }
    tools = '[{"function": {"name": "weather", "parameters": {"city": {"type": "string"}, "q": null}}}]'
    conversation = stored_conversation([ASK], [{"role": "assistant", "content": ""} | added], [ASK], tools)
    assert conversation.chosen == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Lima"}}}],
        }
    ]
    assert conversation.tools == [{"function": {"name": "weather", "parameters": {"city": {"type": "string"}}}}]


def test_a_null_in_arguments_that_are_text_is_the_models_own_and_stays():
    [plain, as_text, _] = spellings(stored_conversation([ASK], [calling('{"q": null}')], [ASK]))
    assert arguments_of(plain) == {"q": None}
    assert arguments_of(as_text) == '{"q": null}'


def test_a_message_without_a_content_has_an_empty_one():
    assert stored_conversation([{"role": "user", "content": None}, {"role": "user"}], [], []).prompt == [
        {"role": "user", "content": ""},
        {"role": "user", "content": ""},
    ]


def test_no_tools_are_none_and_arguments_of_the_template_may_be_text():
    conversation = stored_conversation([ASK], [ASK], [ASK], "[]", '{"enable_thinking": false}')
    assert conversation.tools is None
    assert conversation.arguments == {"enable_thinking": False}


def test_calls_are_spelled_with_objects_then_with_text_then_with_contents_in_parts():
    [objects, text, parts] = spellings(stored_conversation([ASK], [calling({"city": "Quitó"})], [ASK]))
    assert arguments_of(objects) == {"city": "Quitó"}
    assert arguments_of(text) == '{"city": "Quitó"}'
    assert arguments_of(parts) == {"city": "Quitó"}
    assert parts.prompt == [{"role": "user", "content": [{"type": "text", "text": "Weather in Lima?"}]}]


def test_arguments_that_are_text_in_the_data_keep_their_spelling_as_text():
    [objects, text, _] = spellings(stored_conversation([ASK], [calling('{"city":"Lima"}')], [ASK]))
    assert arguments_of(objects) == {"city": "Lima"}
    assert arguments_of(text) == '{"city":"Lima"}'


@pytest.mark.parametrize("arguments", ["no JSON", "[1]", "3"])
def test_arguments_that_are_no_object_stay_text(arguments):
    [text, _] = spellings(stored_conversation([ASK], [calling(arguments)], [ASK]))
    assert arguments_of(text) == arguments


def test_conversations_without_calls_have_two_spellings():
    assert len(list(spellings(stored_conversation([ASK], [ASK], [ASK])))) == 2


def test_a_prompt_that_ends_in_a_response_is_continued_by_responses_only():
    start = {"role": "assistant", "content": "It is"}
    answer = {"role": "assistant", "content": " 4."}
    assert Conversation([ASK, start], [answer], [answer]).continues_message
    assert not Conversation([ASK], [answer], [answer]).continues_message
    assert not Conversation([ASK, start], [answer], [ASK]).continues_message
    assert not Conversation([ASK, start], [answer], []).continues_message
    # A call is not the beginning of an answer, and nothing begins with an empty message.
    assert not Conversation([ASK, calling({})], [answer], [answer]).continues_message
    assert not Conversation([ASK, start | {"content": ""}], [answer], [answer]).continues_message


def test_the_beginning_and_the_rest_of_a_message_are_joined_without_anything_between():
    start, end = {"role": "assistant", "content": "It is"}, {"role": "assistant", "content": " 4.", "thinking": "x"}
    assert joined(start, end) == {"role": "assistant", "content": "It is 4.", "thinking": "x"}
    in_parts = [{"type": "text", "text": "It "}, {"type": "text", "text": "is"}]
    assert joined(start | {"content": in_parts}, end)["content"] == [{"type": "text", "text": "It is 4."}]


def test_a_content_of_text_parts_is_their_text_and_others_stay_in_parts():
    texts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "you."}]
    image = [{"type": "image"}, {"type": "text", "text": "Hello"}]
    conversation = stored_conversation([ASK | {"content": texts}, ASK | {"content": image}], [], [])
    assert [message["content"] for message in conversation.prompt] == ["Hello you.", image]
