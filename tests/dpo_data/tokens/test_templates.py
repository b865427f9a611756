"""A chat template: its arguments, its date, its errors, and what it does whatever the conversation."""

import datetime

import pytest

from dpo_data.errors import UsageError
from dpo_data.tokens.templates import ChatTemplate, TemplateRefusal, check_template_arguments

HELLO = [{"role": "user", "content": "hello"}]
SOME_DAY = "2024-07-06"


@pytest.fixture
def render(toy_tokenizer):
    """Return a function that renders HELLO with a template."""

    def rendered(template: str, date: str | None = None, **arguments: object) -> str:
        return ChatTemplate(toy_tokenizer, template, arguments).at(date).render(HELLO)

    return rendered


def test_arguments_are_variables_of_the_template(render):
    template = "{{ 'short' if enable_thinking is defined and not enable_thinking else 'long' }}"
    assert render(template) == "long"
    assert render(template, enable_thinking=False) == "short"


def test_arguments_of_a_conversation_replace_those_of_the_template(toy_tokenizer):
    template = ChatTemplate(toy_tokenizer, "{{ a }}{{ b }}", {"a": 1, "b": 2})
    assert template.render(HELLO, arguments={"b": 3}) == "13"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "tokenize"])
def test_an_argument_that_this_program_decides_is_refused(name):
    with pytest.raises(UsageError, match=f"{name} is decided by this program"):
        check_template_arguments({name: 1})


def test_an_argument_that_is_not_json_is_refused():
    with pytest.raises(UsageError, match="now: Object of type date is not JSON serializable"):
        check_template_arguments({"now": datetime.date(2024, 7, 6)})


def test_arguments_that_the_template_does_not_mention_are_known(toy_tokenizer):
    template = ChatTemplate(toy_tokenizer, "{{ enable_thinking }}", {"enable_thinking": True, "enable_thinkin": True})
    assert template.unused_arguments == ["enable_thinkin"]


# Dates.


def test_the_date_is_the_given_day_in_whatever_format_and_place(render):
    template = (
        "{% macro today() %}{{ strftime_now('%A, %-d %B %Y') }}{% endmacro %}"
        "{% if strftime_now is defined %}{{ today() ~ '|' ~ strftime_now('%Y-%m-%d %H:%M %%d') }}{% endif %}"
    )
    assert render(template, SOME_DAY) == "Saturday, 6 July 2024|2024-07-06 00:00 %d"


def test_without_a_given_day_the_date_is_today(render):
    assert render("{{ strftime_now('%Y-%m-%d') }}") == datetime.date.today().isoformat()


def test_a_fixed_date_changes_nothing_else(render):
    template = "\n  {{ messages[0].content }}\n{#strftime_now#}\n  {% if true %}\n x\n{% endif %}\n"
    assert render(template, SOME_DAY) == render(template)


def test_a_template_is_known_to_write_a_date_by_its_text(toy_tokenizer):
    assert ChatTemplate(toy_tokenizer, "{{ strftime_now('%Y') }}").uses_date
    assert not ChatTemplate(toy_tokenizer, "{{ date_string }}").uses_date


# Errors.


def test_an_error_of_the_template_is_handed_on_in_its_own_words(render):
    with pytest.raises(TemplateRefusal, match=r"^roles must alternate$"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[7].content }}",
        "{{ 'a' + 1 }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content.no.such }}",
        "{{ messages.append(1) }}",
        "{{ [1] | tojson('x', 'y', 'z', 'a', 'b', 'c') }}",
    ],
)
def test_whatever_else_goes_wrong_in_a_template_refuses_the_conversation(render, template):
    with pytest.raises(TemplateRefusal):
        render(template)


def test_a_template_that_is_not_valid_jinja_is_the_users_error(toy_tokenizer):
    with pytest.raises(UsageError, match=r"the chat template is not valid Jinja: .* \(line 2\)"):
        ChatTemplate(toy_tokenizer, "a\n{% for %}").check()
    ChatTemplate(toy_tokenizer, "{{ raise_exception('no') }}").check()


def test_generation_tags_of_training_templates_are_understood(render):
    assert render("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}") == "hello|"


def test_tools_choose_the_template_of_a_tokenizer_that_has_two(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"default": "plain", "tool_use": "with {{ tools[0].name }}"}
    template = ChatTemplate(tokenizer)
    assert template.render(HELLO) == "plain"
    assert template.render(HELLO, [{"name": "weather"}]) == "with weather"


# What a template does whatever the conversation.


def test_messages_that_a_template_leaves_out_are_found_whatever_they_say(toy_tokenizer):
    template = ChatTemplate(toy_tokenizer, "{% for m in messages if m.role != 'tool' %}{{ m.content }}{% endfor %}")
    messages = [*HELLO, {"role": "tool", "content": "e"}, {"role": "assistant", "content": "l"}]
    assert template.dropped(messages) == {1}
    assert template.dropped(HELLO) == frozenset()


def test_calls_that_a_template_leaves_out_are_found_though_the_tools_name_them(toy_tokenizer):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {}}}]}
    tools = [{"name": "weather"}]
    without = ChatTemplate(toy_tokenizer, "{{ tools }}{% for m in messages %}{{ m.content }}{% endfor %}")
    assert without.dropped([*HELLO, call], tools) == {1}
    name = "{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}"
    with_calls = ChatTemplate(toy_tokenizer, "{% for m in messages %}{{ m.content }}" + name + "{% endfor %}")
    assert with_calls.dropped([*HELLO, call], tools) == frozenset()


def test_a_template_that_cannot_render_marks_drops_nothing(toy_tokenizer):
    picky = "{{ messages[0].content if messages[0].content == 'hello' else raise_exception('no') }}"
    assert ChatTemplate(toy_tokenizer, picky).dropped(HELLO) == frozenset()


TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def test_a_template_that_always_adds_a_generation_prompt_is_known(toy_tokenizer):
    def forced_end(template: str) -> str:
        return ChatTemplate(toy_tokenizer, template).forced_end

    assert forced_end(TURNS + "assistant: ") == "\nassistant: "
    assert forced_end(TURNS + "{% if add_generation_prompt %}assistant: {% endif %}") == ""
    assert forced_end(TURNS) == ""
    assert forced_end("{% for m in messages %}{{ m.content }}|{% endfor %}") == ""
    assert forced_end("{{ raise_exception('no') }}") == ""
