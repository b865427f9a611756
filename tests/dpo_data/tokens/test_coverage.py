"""What a rendering may not leave out: contents, reasoning, calls, arguments and tools."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_data.tokens.coverage import lost_from_prompt, lost_from_response

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=8,
)
argument_objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)


def answer(content: str, **fields: object) -> dict:
    return {"role": "assistant", "content": content, **fields}


def calling(arguments: object, name: str = "weather") -> dict:
    return answer("", tool_calls=[{"type": "function", "function": {"name": name, "arguments": arguments}}])


def codes(text: str, *messages: dict) -> list[str]:
    return [loss.code for loss in lost_from_response(text, list(messages))]


def test_a_content_may_be_rendered_with_other_white_space():
    assert codes("a  b\n</s>", answer("  a b")) == []


@given(st.text())
def test_a_content_may_be_rendered_as_json(content):
    for ensure_ascii in (True, False):
        assert codes(json.dumps({"content": content}, ensure_ascii=ensure_ascii), answer(content)) == []


def test_a_content_may_be_escaped_for_html():
    assert codes("&lt;b&gt; &amp; &#x27;c&#x27;", answer("<b> & 'c'")) == []


def test_a_missing_content_is_named_with_its_place():
    [loss] = lost_from_response("Go away.</s>", [answer("It is 4.")])
    assert loss == ("template_drops_content", "It is 4.", "content of message 1 of the response (assistant)")


def test_an_empty_content_is_not_missed():
    assert codes("</s>", answer("")) == []


def test_every_message_of_a_response_is_looked_for():
    messages = [answer("First."), {"role": "tool", "content": "Second."}, answer("Third.")]
    assert codes("First. Third.", *messages) == ["template_drops_content"]


def test_a_content_in_parts_is_looked_for_part_by_part():
    parts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert codes("One.", answer(parts)) == ["template_drops_content"]
    assert codes("One.Two.", answer(parts)) == []
    assert codes(str(parts), answer(parts)) == ["written_as_data"]
    assert codes(json.dumps(parts), answer(parts)) == ["written_as_data"]


@pytest.mark.parametrize("field", ["reasoning_content", "thinking", "reasoning"])
def test_missing_reasoning_is_reported_by_itself(field):
    assert codes("4</s>", answer("4", **{field: "Two and two."})) == ["reasoning_dropped"]
    assert codes("<think>Two and two.</think>4</s>", answer("4", **{field: "Two and two."})) == []


@pytest.mark.parametrize("content", ["<think>Two and two.</think>\n\n4", "Two and two.\n</think>\n\n4"])
def test_reasoning_in_a_content_is_missed_as_reasoning(content):
    assert codes("4</s>", answer(content)) == ["reasoning_dropped"]
    assert codes(f"{content}</s>", answer(content)) == []
    assert codes("5</s>", answer(content)) == ["template_drops_content", "reasoning_dropped"]


def test_a_call_needs_its_name_and_every_key_and_value_of_its_arguments():
    call = calling({"city": "Lima", "days": [1, {"hour": 12.5}], "exact": True})
    whole = '{"name": "weather", "arguments": {"city": "Lima", "days": [1, {"hour": 12.5}], "exact": true}}'
    assert codes(whole, call) == []
    for part in ("weather", "city", "Lima", "hour", "12.5", "true"):
        assert codes(whole.replace(part, "-"), call) == ["template_drops_content"], part


def test_arguments_may_be_written_in_python_or_as_tags():
    call = calling({"city": "Lima", "exact": True, "none": None})
    assert codes("weather(city='Lima', exact=True, none=None)", call) == []
    assert codes("<call=weather><city>Lima</city><exact>true</exact><none>null</none>", call) == []


@given(argument_objects)
def test_arguments_as_json_have_everything(arguments):
    for ensure_ascii in (True, False):
        rendered = json.dumps({"name": "weather", "arguments": arguments}, ensure_ascii=ensure_ascii)
        assert codes(rendered, calling(arguments)) == []


@given(argument_objects.filter(bool), st.booleans())
def test_arguments_that_are_encoded_twice_are_lost(arguments, ensure_ascii):
    inner = json.dumps(arguments, ensure_ascii=ensure_ascii)
    rendered = json.dumps({"name": "weather", "arguments": inner}, ensure_ascii=ensure_ascii)
    assert codes(rendered, calling(arguments)) == ["template_drops_content"]


def test_arguments_that_are_text_in_the_data_are_looked_for_as_what_they_mean():
    assert codes('weather {"city": "Lima"}', calling('{"city":"Lima"}')) == []
    assert codes("weather {}", calling('{"city":"Lima"}')) == ["template_drops_content"]
    assert codes("weather free words", calling("free words")) == []
    assert codes("weather", calling("free words")) == ["template_drops_content"]


def test_a_prompt_may_lose_reasoning_and_nothing_else():
    history = [{"role": "user", "content": "2+2?"}, answer("<think>Two and two.</think>4", thinking="Two and two.")]
    assert lost_from_prompt("2+2? 4", history) == []
    [loss] = lost_from_prompt("2+2?", history)
    assert (loss.code, loss.place) == ("template_drops_message", "content of message 2 of the prompt (assistant)")


def test_tools_that_are_not_in_the_prompt_are_reported():
    tools = [{"type": "function", "function": {"name": "weather"}}, {"name": "search"}]
    assert [loss.code for loss in lost_from_prompt("Hi", [], tools)] == ["tools_dropped"]
    assert lost_from_prompt("use weather or search", [], tools) == []
    assert lost_from_prompt("Hi", [], None) == []
