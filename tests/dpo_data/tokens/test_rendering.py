"""Conversational pairs to text: nothing is lost, whatever the template does, or the pair is refused with a reason."""

import pytest

from dpo_data.tokens.messages import stored_conversation
from dpo_data.tokens.rendering import Refused, RenderedPair, render_pair
from dpo_data.tokens.special import EndTokens
from dpo_data.tokens.templates import ChatTemplate


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: object) -> dict:
    return {"role": "assistant", "content": text, **fields}


def calling(arguments: object, content: str = "") -> dict:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return assistant(content, tool_calls=[call])


HELLO = [user("hello there")]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]

#: Turns end with EOS; MESSAGE is what is written of a message.
TURNS = (
    "{% for m in messages %}[{{ m.role }}] MESSAGE{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
PLAIN = TURNS.replace("MESSAGE", "{{ m.content }}")


@pytest.fixture
def render(make_tokenizer):
    """Return a function that renders a pair, with the arguments of a stored row."""

    def rendered(template: str, *fields: object, **kwargs: object) -> RenderedPair:
        tokenizer = make_tokenizer(template=template)
        return render_pair(
            ChatTemplate(tokenizer, None, kwargs), EndTokens(tokenizer, template), stored_conversation(*fields)
        )

    return rendered


def refusal(render, *fields: object) -> tuple[str, str]:
    with pytest.raises(Refused) as refused:
        render(*fields)
    return refused.value.code, refused.value.message


# Thinking.


def thinking(prompt_end: str, of_answer: str = "") -> str:
    """Return a template that ends prompts with `prompt_end` and writes `of_answer` before the content of an answer."""
    message = "{% if m.role == 'assistant' %}" + of_answer + "{% endif %}{{ m.content.split('</think>')[-1] }}"
    return TURNS.replace("MESSAGE", message).replace("[assistant] {%", "[assistant] " + prompt_end + "{%")


def test_a_response_without_reasoning_begins_at_the_generation_prompt_without_its_think_marker(render):
    pair = render(thinking("<think>\n"), HELLO, [assistant("It is 4.")], [assistant("Go away.")])
    assert pair == RenderedPair(
        "[user] hello there</s>[assistant] ",
        "It is 4.</s>",
        "Go away.</s>",
        {"prompt_end_left_out": '"<think>\\n"'},
    )


def test_reasoning_that_the_template_splits_off_is_put_back(render):
    chosen = assistant("<think>\nTwo and two.\n</think>\n\nIt is 4.")
    pair = render(thinking("<think>\n"), HELLO, [chosen], [assistant("Go away.", reasoning_content="No idea.")])
    assert pair == RenderedPair(
        "[user] hello there</s>[assistant] <think>\n",
        "Two and two.\n</think>\n\nIt is 4.</s>",
        "No idea.\n</think>\n\nGo away.</s>",
        {},
    )


def test_a_model_that_learns_to_close_its_thoughts_at_once_is_remarked(render):
    pair = render(thinking("<think>\n", "<think></think>"), HELLO, [assistant("It is 4.")], [assistant("Go away.")])
    assert (pair.prompt, pair.chosen) == ("[user] hello there</s>[assistant] <think>\n", "</think>It is 4.</s>")
    assert pair.remarks == {"thinking_closed_at_once": '"<think>\\n"'}


def test_reasoning_is_counted_as_dropped_where_the_template_has_no_place_for_it(render):
    pair = render(PLAIN, HELLO, [assistant("It is 4.", thinking="Two and two.")], [assistant("Go away.")])
    assert pair.chosen == "It is 4.</s>"
    assert pair.remarks == {"reasoning_dropped": '"Two and two."'}


def test_arguments_of_the_template_choose_its_think_block(render):
    template = thinking("{{ '<think></think>' if enable_thinking is false else '<think>' }}")
    pair = render(template, HELLO, [assistant("It is 4.")], [assistant("Go away.")], enable_thinking=False)
    assert pair.prompt == "[user] hello there</s>[assistant] <think></think>"
    assert pair.remarks == {}


# Prompts that end in the beginning of a response.


def test_the_beginning_of_a_response_is_continued_in_the_same_turn(render):
    prompt = [*HELLO, assistant("The answer")]
    pair = render(PLAIN, prompt, [assistant(" is 4.")], [assistant(", or not.")])
    assert (pair.prompt, pair.chosen, pair.rejected) == (
        "[user] hello there</s>[assistant] The answer",
        " is 4.</s>",
        ", or not.</s>",
    )
    assert pair.remarks == {"prompt_continued": ""}


def test_white_space_between_a_beginning_and_its_rest_is_kept_where_the_template_strips_both(render):
    stripping = TURNS.replace("MESSAGE", "{{ m.content | trim }}")
    pair = render(stripping, [*HELLO, assistant("The answer ")], [assistant("is 4.")], [assistant("was 4.")])
    assert pair.prompt + pair.chosen == "[user] hello there</s>[assistant] The answer is 4.</s>"
    assert pair.prompt + pair.rejected == "[user] hello there</s>[assistant] The answer was 4.</s>"


def test_the_beginning_of_a_response_before_several_messages_is_continued_by_the_first(render):
    tool = {"role": "tool", "content": "sunny"}
    chosen = [assistant(" me see."), tool, assistant("It is sunny.")]
    pair = render(PLAIN, [*HELLO, assistant("Let")], chosen, [assistant(" it be.")])
    assert pair.chosen == " me see.</s>[tool] sunny</s>[assistant] It is sunny.</s>"


# Nothing is lost.


def test_a_template_that_leaves_out_a_role_refuses_the_pair(render):
    without_system = PLAIN.replace("in messages", "in messages if m.role != 'system'")
    system = {"role": "system", "content": "Be very kind."}
    assert refusal(render, without_system, [system, *HELLO], [assistant("a")], [assistant("b")]) == (
        "template_drops_message",
        'the content of message 1 of the prompt (system) is not in the rendered text: "Be very kind."',
    )


def test_a_short_message_that_is_left_out_is_missed_though_its_letters_are_in_the_text(render):
    without_tools = PLAIN.replace("in messages", "in messages if m.role != 'tool'")
    prompt = [*HELLO, assistant("Let me look."), {"role": "tool", "content": "e"}]
    code, message = refusal(render, without_tools, prompt, [assistant("It is sunny.")], [assistant("No idea.")])
    assert (code, message.partition(" is ")[0]) == (
        "template_drops_message",
        "the message 3 of the conversation (tool)",
    )


def test_a_constant_template_refuses_every_pair(render):
    assert refusal(render, "constant", HELLO, [assistant("a")], [assistant("b")])[0] == "template_drops_message"


def test_a_template_without_tool_calls_refuses_a_pair_that_has_one(render):
    code, message = refusal(render, PLAIN, HELLO, [calling({"city": "Lima"})], [assistant("No idea.")], TOOLS)
    assert (code, message) == (
        "template_drops_content",
        'the tool call of message 1 of the response (assistant) is not in the rendered text: "weather"',
    )


def test_content_beside_a_call_may_not_be_left_out(render):
    either = "{{ m.tool_calls | tojson if m.tool_calls else m.content }}"
    template = TURNS.replace("MESSAGE", either)
    fields = (HELLO, [calling({"city": "Lima"}, "Let me look.")], [assistant("No idea.")])
    assert refusal(render, template, *fields)[0] == "template_drops_content"


def test_tools_that_the_template_does_not_write_are_remarked(render):
    pair = render(PLAIN, HELLO, [assistant("It is 4.")], [assistant("Go away.")], TOOLS)
    assert pair.remarks == {"tools_dropped": '"weather"'}


# Arguments of calls.


@pytest.mark.parametrize("arguments", [{"city": "Lima"}, '{"city": "Lima"}'], ids=["object", "text"])
@pytest.mark.parametrize(
    "written",
    [
        "{{ c.function.arguments | tojson }}",
        "{{ raise_exception('object, please') if c.function.arguments is string }}{{ c.function.arguments | tojson }}",
        "{{ '' + c.function.arguments }}",
    ],
    ids=["as JSON", "only objects", "only text"],
)
def test_arguments_are_given_in_the_spelling_that_the_template_wants(render, written, arguments):
    calls = "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }} " + written + "{% endfor %}"
    pair = render(TURNS.replace("MESSAGE", calls), HELLO, [calling(arguments)], [assistant("No idea.")])
    assert pair.chosen == 'weather {"city": "Lima"}</s>'


def test_arguments_that_are_encoded_twice_in_every_spelling_are_refused(render):
    written = "{{ c.function.name }} {{ c.function.arguments | tojson | tojson }}"
    twice = "{% for c in m.tool_calls or [] %}" + written + "{% endfor %}"
    template = TURNS.replace("MESSAGE", "{{ m.content }}" + twice)
    code, message = refusal(render, template, HELLO, [calling({"city": "Lima"})], [assistant("No idea.")])
    assert code == "template_drops_content"
    assert "encoded as JSON twice" in message


def test_contents_are_given_in_parts_to_a_template_that_wants_parts(render):
    parts = TURNS.replace("MESSAGE", "{% for part in m.content %}{{ part.text }}{% endfor %}")
    pair = render(parts, HELLO, [assistant("It is 4.")], [assistant("Go away.")])
    assert (pair.prompt, pair.chosen) == ("[user] hello there</s>[assistant] ", "It is 4.</s>")


def test_parts_that_a_template_writes_as_data_are_no_text(render):
    only_lists = TURNS.replace("MESSAGE", "{{ raise_exception('no text') if m.content is string else m.content }}")
    assert refusal(render, only_lists, HELLO, [assistant("a")], [assistant("b")]) == ("template_refused", "no text")


# Ends of turns.


def test_the_white_space_behind_the_end_of_a_turn_is_dropped(render):
    lines = PLAIN.replace("{{ eos_token }}", "{{ eos_token }}\n")
    pair = render(lines, HELLO, [assistant("It is 4. \n")], [assistant("Go away.")])
    assert (pair.chosen, pair.rejected) == ("It is 4. \n</s>", "Go away.</s>")


def test_two_special_tokens_at_the_end_are_both_kept(render):
    twice = PLAIN.replace("{{ eos_token }}", "<|im_end|>\n{{ eos_token }}")
    assert render(twice, HELLO, [assistant("It is 4.")], [assistant("No.")]).chosen == "It is 4.<|im_end|>\n</s>"


def test_a_generation_prompt_that_the_template_always_adds_is_cut_off(render):
    always = PLAIN.replace("{% if add_generation_prompt %}", "").removesuffix("{% endif %}")
    pair = render(always, HELLO, [assistant("a")], [assistant("Go away.")])
    assert pair == RenderedPair(
        "[user] hello there</s>[assistant] ", "a</s>", "Go away.</s>", {"text_after_end_cut": '"[assistant]"'}
    )


def test_a_generation_prompt_that_no_eos_separates_from_the_response_is_refused(render):
    always = PLAIN.replace("{{ eos_token }}", "\n").replace("{% if add_generation_prompt %}", "")
    code, message = refusal(
        render, always.removesuffix("{% endif %}"), HELLO, [assistant("It is 4.")], [assistant("Go away.")]
    )
    assert (code, message.partition(",")[0]) == ("template_refused", "the template always adds a generation prompt")


def test_what_follows_a_call_behind_its_end_is_cut_off(render):
    after = "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{{ eos_token }}[assistant] {% endfor %}"
    pair = render(TURNS.replace("MESSAGE", after), HELLO, [calling({"city": "Lima"})], [assistant("No idea.")])
    assert pair.chosen.endswith('"arguments": {"city": "Lima"}}}</s>')
    assert pair.remarks == {"text_after_end_cut": '"[assistant] </s>"'}


def test_eos_inside_a_response_is_not_its_end(render):
    tool = {"role": "tool", "content": "s"}
    chosen = [assistant("Say </s> now."), tool, assistant("t")]
    pair = render(PLAIN, HELLO, chosen, [assistant("No </s> idea")])
    assert pair.chosen == "Say </s> now.</s>[tool] s</s>[assistant] t</s>"
    assert pair.rejected == "No </s> idea</s>"
    assert pair.remarks == {}


def test_a_response_that_ends_without_a_special_token_is_remarked(render):
    pair = render(PLAIN.replace("{{ eos_token }}", "|"), HELLO, [assistant("It is 4.")], [assistant("Go away.")])
    assert (pair.chosen, pair.remarks) == ("It is 4.|", {"eos_appended": "</s>"})


# Refusals.


def test_a_refusal_has_the_templates_own_message(render):
    strict = PLAIN + "{{ raise_exception('Only user and assistant roles') if messages[0].role == 'system' }}"
    fields = ([{"role": "system", "content": "Be very kind."}, *HELLO], [assistant("a")], [assistant("b")])
    assert refusal(render, strict, *fields) == ("template_refused", "Only user and assistant roles")


def test_an_empty_prompt_is_refused_in_words(render):
    code, message = refusal(render, PLAIN, [], [assistant("It is 4.")], [assistant("Go away.")])
    assert (code, "empty conversation" in message) == ("template_refused", True)


def test_a_template_that_changes_the_prompt_says_where(render):
    forgetful = TURNS.replace("MESSAGE", "{{ m.content if loop.last else 'forgotten' }}")
    assert refusal(render, forgetful, HELLO, [assistant("It is 4.")], [assistant("Go away.")]) == (
        "template_rewrites_prompt",
        'the prompt has "hello there</s>[assistant] " where the whole conversation has '
        '"forgotten</s>[assistant] It is 4.</s>"',
    )
