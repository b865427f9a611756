"""Encoding of texts and conversations: BOS, EOS, chat templates and seams."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from dpo_data.errors import UsageError
from dpo_data.tokens.encoder import (
    EncodedPairs,
    Encoder,
    Refusal,
    Texts,
)
from dpo_data.tokens.rendering import TEMPLATE_REFUSED, TEMPLATE_REWRITES_PROMPT
from dpo_data.tokens.templates import ChatTemplate

BOS, EOS = 0, 1
IM_END = 5

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Turns that end with a special token without white space after it.
TIGHT_CHATML = CHATML.replace("<|im_end|>\n", "<|im_end|>")
#: Earlier turns are dropped, as reasoning models drop earlier reasoning: a response changes the prompt before it.
FORGETFUL = (
    "{% for m in messages %}{{ m.role }}: {% if loop.last %}{{ m.content }}{% else %}-{% endif %}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}</s>{% endfor %}"
)


def lists(ids) -> list[list[int]]:
    return [ids.values[a:b].tolist() for a, b in zip(ids.offsets[:-1], ids.offsets[1:], strict=True)]


def sides(encoded: EncodedPairs) -> list[tuple[list[int], list[int], list[int]]]:
    return list(zip(lists(encoded.prompts), lists(encoded.chosen), lists(encoded.rejected), strict=True))


def encode_text(tokenizer, *rows: tuple[str, str, str]) -> list[tuple[list[int], list[int], list[int]]]:
    prompts, chosen, rejected = map(list, zip(*rows, strict=True))
    return sides(Encoder(tokenizer).encode_texts(Texts(prompts, chosen, rejected)))


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


HELLO = [user("hello")]


# Texts.


def test_prompt_and_responses_are_tokenized_separately(toy_tokenizer):
    prompt, chosen, rejected = "hello the", "re world", " other thing"
    assert encode_text(toy_tokenizer, (prompt, chosen, rejected)) == [
        (
            ids_of(toy_tokenizer, prompt),
            [*ids_of(toy_tokenizer, chosen), EOS],
            [*ids_of(toy_tokenizer, rejected), EOS],
        )
    ]


def test_a_batch_gives_the_ids_of_its_rows_alone(bos_tokenizer):
    rows = [
        ("hello", " there", " world"),
        ("hello", " what", " there"),
        ("<s>hello", " this</s>", " that"),
        ("a", "", "b"),
    ]
    alone = [encode_text(bos_tokenizer, row)[0] for row in rows]
    assert encode_text(bos_tokenizer, *rows) == alone


@pytest.mark.parametrize("chars", [1, 12, 30])
def test_long_texts_go_to_the_tokenizer_in_several_calls(bos_tokenizer, monkeypatch, chars):
    texts = ["hello there, the other one", "", "what", "is it", "x" * 40]
    whole = Encoder(bos_tokenizer).encode(texts)
    monkeypatch.setattr("dpo_data.tokens.engines.CALL_CHARS", chars)
    again = Encoder(bos_tokenizer).encode(texts)
    assert again.values.tolist() == whole.values.tolist()
    assert again.offsets.tolist() == whole.offsets.tolist()
    assert again.values.dtype == whole.values.dtype


def test_no_rows_give_no_ids(bos_tokenizer):
    encoded = Encoder(bos_tokenizer).encode_texts(Texts([], [], []))
    assert sides(encoded) == []
    assert encoded.seams == 0


def test_bos_is_added_once_to_the_prompt_and_never_to_a_response(bos_tokenizer):
    [(prompt, chosen, rejected)] = encode_text(bos_tokenizer, ("hello", " there", " world"))
    assert prompt == [BOS, *ids_of(bos_tokenizer, "hello")]
    assert BOS not in chosen + rejected


def test_bos_is_not_added_to_a_prompt_that_begins_with_it(bos_tokenizer):
    [(with_text, _, _), (without, _, _)] = encode_text(
        bos_tokenizer, ("<s>hello", " there", " world"), ("hello", " there", " world")
    )
    assert with_text == without == [BOS, *ids_of(bos_tokenizer, "hello")]


def test_a_tokenizer_that_adds_no_bos_gets_none(toy_tokenizer):
    assert toy_tokenizer.bos_token_id == BOS
    [(prompt, _, _)] = encode_text(toy_tokenizer, ("hello", " there", " world"))
    assert BOS not in prompt


def test_eos_is_not_added_to_a_response_that_ends_with_it(toy_tokenizer):
    [(_, chosen, rejected)] = encode_text(toy_tokenizer, ("hello", " there</s>", " there"))
    assert chosen == rejected == [*ids_of(toy_tokenizer, " there"), EOS]


def test_eos_inside_a_response_is_kept_and_another_is_added_at_its_end(toy_tokenizer):
    [(_, chosen, _)] = encode_text(toy_tokenizer, ("hello", " there</s> world", " that"))
    assert chosen == [*ids_of(toy_tokenizer, " there"), EOS, *ids_of(toy_tokenizer, " world"), EOS]


def test_a_token_that_pads_does_not_end_a_text(toy_tokenizer):
    [(_, chosen, _)] = encode_text(toy_tokenizer, ("hello", " there<pad>", " that"))
    assert chosen == [*ids_of(toy_tokenizer, " there"), 2, EOS]


def test_a_text_that_ends_with_the_end_of_a_turn_gets_no_eos_and_loses_the_white_space_after_it(make_tokenizer):
    tokenizer = make_tokenizer(additional_special_tokens=["<|im_end|>"])
    [(_, chosen, rejected)] = encode_text(tokenizer, ("hello", " there<|im_end|>\n", " that<|im_end|>"))
    assert chosen == [*ids_of(tokenizer, " there"), IM_END]
    assert rejected == [*ids_of(tokenizer, " that"), IM_END]


def test_white_space_at_the_end_of_a_text_stays_before_eos(toy_tokenizer):
    [(_, chosen, _)] = encode_text(toy_tokenizer, ("hello", " there \n", " that"))
    assert chosen == [*ids_of(toy_tokenizer, " there \n"), EOS]


@pytest.mark.parametrize("added", ["<s> $A </s>", "$A </s>"])
def test_eos_that_the_tokenizer_adds_by_itself_is_added_to_responses_only(make_tokenizer, added):
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=added, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    [(prompt, chosen, _)] = encode_text(tokenizer, ("hello", " there", " that"))
    assert prompt == [BOS] * added.startswith("<s>") + ids_of(tokenizer, "hello")
    assert chosen == [*ids_of(tokenizer, " there"), EOS]


def test_truncation_and_padding_of_the_tokenizer_have_no_effect_and_stay_enabled(make_tokenizer):
    tokenizer = make_tokenizer(bos=True)
    rows = [("hello there what is this", " hello world hello world", " that"), ("a", " b", " c")]
    expected = encode_text(tokenizer, *rows)
    encoder = Encoder(tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    texts = Texts(*map(list, zip(*rows, strict=True)))
    assert sides(encoder.encode_texts(texts)) == expected
    assert tokenizer.backend_tokenizer.truncation["max_length"] == 2
    assert tokenizer.backend_tokenizer.padding["length"] == 9


def test_a_tokenizer_written_in_python_works_too():
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    # Bytes are shifted by 3, after <pad>, </s> and <unk>.
    assert encode_text(tokenizer, ("a", "b", "cd</s>"), ("é", "", "a")) == [
        ([100], [101, 1], [102, 103, 1]),
        ([198, 172], [1], [100, 1]),
    ]


# Conversations.


def render(tokenizer, prompt, chosen, rejected, template=None) -> Texts:
    return Encoder(tokenizer, ChatTemplate(tokenizer, template)).render([prompt], [chosen], [rejected])


def test_a_response_is_what_the_template_adds_to_the_rendered_prompt(chat_tokenizer):
    prompt = [{"role": "system", "content": "Be kind."}, user("hello")]
    texts = render(chat_tokenizer, prompt, [assistant("hello there")], [assistant("what")])
    assert texts == Texts(
        ["<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"],
        ["hello there<|im_end|>"],
        ["what<|im_end|>"],
    )


def test_a_response_of_several_messages_is_rendered_as_one_text(chat_tokenizer):
    tool = {"role": "tool", "content": "42"}
    texts = render(chat_tokenizer, HELLO, [assistant("a"), tool, assistant("b")], [assistant("c")])
    assert texts.chosen == ["a<|im_end|>\n<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\nb<|im_end|>"]


def test_white_space_after_the_last_eos_is_dropped_and_kept_inside_a_response(chat_tokenizer):
    texts = render(chat_tokenizer, HELLO, [assistant(" a \n")], [assistant("b<|im_end|> \n")])
    assert texts.chosen == [" a \n<|im_end|>"]
    assert texts.rejected == ["b<|im_end|> \n<|im_end|>"]


def test_the_ids_of_a_conversation_end_with_one_eos(chat_tokenizer):
    encoder = Encoder(chat_tokenizer)
    texts = encoder.render([HELLO], [[assistant("hello there")]], [[assistant("what")]])
    [(prompt, chosen, rejected)] = sides(encoder.encode_rendered(texts))
    assert prompt == ids_of(chat_tokenizer, "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    assert chosen == [*ids_of(chat_tokenizer, "hello there"), IM_END]
    assert rejected == [*ids_of(chat_tokenizer, "what"), IM_END]


def test_a_turn_that_ends_with_another_special_token_gets_no_eos(make_tokenizer):
    tokenizer = make_tokenizer(template=TIGHT_CHATML, additional_special_tokens=["<|im_start|>", "<|im_end|>"])
    encoder = Encoder(tokenizer)
    texts = encoder.render([HELLO], [[assistant("hello there")]], [[assistant("what")]])
    [(_, chosen, rejected)] = sides(encoder.encode_rendered(texts))
    assert tokenizer.eos_token_id == EOS
    assert chosen == [*ids_of(tokenizer, "hello there"), IM_END]
    assert rejected == [*ids_of(tokenizer, "what"), IM_END]


def test_white_space_after_another_special_token_at_the_end_is_dropped(make_tokenizer):
    tokenizer = make_tokenizer(
        template=CHATML,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    texts = render(tokenizer, HELLO, [assistant("a")], [assistant("b")])
    assert tokenizer.eos_token_id == EOS
    assert (texts.chosen, texts.rejected) == (["a<|im_end|>"], ["b<|im_end|>"])


def test_eos_is_added_if_the_template_writes_no_end(make_tokenizer):
    template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    encoder = Encoder(make_tokenizer(template=template))
    texts = encoder.render([HELLO], [[assistant("hello there")]], [[assistant("what")]])
    assert (texts.prompts, texts.chosen) == (["[user] hello[assistant] "], ["hello there"])
    [(_, chosen, _)] = sides(encoder.encode_rendered(texts))
    assert chosen == [*ids_of(encoder.tokenizer, "hello there"), EOS]


def test_the_bos_of_a_template_is_not_repeated(make_tokenizer):
    encoder = Encoder(make_tokenizer(bos=True, template="<s>" + CHATML, eos_token="<|im_end|>"))
    texts = encoder.render([HELLO], [[assistant("hello there")]], [[assistant("what")]])
    [(prompt, chosen, rejected)] = sides(encoder.encode_rendered(texts))
    assert prompt[0] == BOS
    assert (prompt + chosen + rejected).count(BOS) == 1


def test_a_template_that_rewrites_the_prompt_is_refused_with_its_own_code(make_tokenizer):
    texts = render(make_tokenizer(template=FORGETFUL), HELLO, [assistant("hello there")], [assistant("what")])
    message = 'the prompt has "hello</s>assistant: " where the whole conversation has "-</s>assistant: hello there</s>"'
    assert texts == Texts([""], [""], [""], {0: Refusal(TEMPLATE_REWRITES_PROMPT, message)})
    assert TEMPLATE_REWRITES_PROMPT == "template_rewrites_prompt"


def test_only_the_pair_for_which_a_template_raises_is_refused(make_tokenizer):
    encoder = Encoder(make_tokenizer(template=ALTERNATING))
    texts = encoder.render(
        [HELLO, [user("hello"), user("you")], HELLO],
        [[assistant("a")], [assistant("b")], [assistant("c")]],
        [[assistant("d")], [assistant("e")], [assistant("f"), assistant("g")]],
    )
    refusal = Refusal(TEMPLATE_REFUSED, "roles must alternate")
    assert texts == Texts(["hello</s>", "", ""], ["a</s>", "", ""], ["d</s>", "", ""], {1: refusal, 2: refusal})
    assert TEMPLATE_REFUSED == "template_refused"


def test_a_template_that_is_not_valid_jinja_is_a_usage_error(chat_tokenizer):
    with pytest.raises(UsageError) as refusal:
        render(chat_tokenizer, HELLO, [assistant("a")], [assistant("b")], "{% for m in messages %}\n{% endif %}")
    assert str(refusal.value) == (
        "the chat template is not valid Jinja: Encountered unknown tag 'endif'. Jinja was looking for the following "
        "tags: 'endfor' or 'else'. The innermost block that needs to be closed is 'for'. (line 2).\n"
        "  Fix it, or give another with chat_template=."
    )


def test_a_template_of_the_user_replaces_that_of_the_tokenizer(chat_tokenizer):
    template = "{% for m in messages %}{{ m.content }}|{% endfor %}"
    texts = render(chat_tokenizer, HELLO, [assistant("a")], [assistant("b")], template)
    assert texts == Texts(["hello|"], ["a|"], ["b|"], remarks={0: {"eos_appended": "<|im_end|>"}})


# Seams.

words = st.text(st.sampled_from("hetol ':\n?é"), max_size=8)
rows = st.lists(st.tuples(words, words, words), min_size=1, max_size=4)


def seams_by_definition(tokenizer, pairs: list[tuple[str, str, str]]) -> int:
    """Count the responses whose joint tokenization with the whole prompt differs from that of both separately."""
    return sum(
        ids_of(tokenizer, prompt + response) != ids_of(tokenizer, prompt) + ids_of(tokenizer, response)
        for prompt, *responses in pairs
        for response in responses
    )


def changed_prompts(tokenizer, pairs: list[tuple[str, str, str]]) -> int:
    """Count the responses whose joint tokenization with the prompt does not begin with the prompt's own ids."""
    return sum(
        ids_of(tokenizer, prompt + response)[: len(ids_of(tokenizer, prompt))] != ids_of(tokenizer, prompt)
        for prompt, *responses in pairs
        for response in responses
    )


PREFIXING = [{"prefix_space": True}, {"metaspace": True}]
variants = pytest.mark.parametrize(
    ("variant", "seams_of"),
    [({}, seams_by_definition), ({"bos": True}, seams_by_definition), *((v, changed_prompts) for v in PREFIXING)],
    ids=lambda value: next(iter(value), "plain") if isinstance(value, dict) else "",
)


@variants
def test_seams_are_counted_as_by_joint_tokenization(make_tokenizer, variant, seams_of):
    tokenizer = make_tokenizer(**variant)
    encoder = Encoder(tokenizer)
    found: set[int] = set()
    token = next(token for token in tokenizer.get_vocab() if len(token) > 1 and token.isascii() and token.isalpha())
    cut_token = [(token[0], token[1:], f"{token[1:]}?")]

    @settings(max_examples=150, deadline=None, database=None)
    @given(rows)
    @example(cut_token)
    def check(pairs):
        texts = Texts(*map(list, zip(*pairs, strict=True)))
        seams = encoder.encode_texts(texts).seams
        assert seams == seams_of(tokenizer, pairs)
        found.add(seams)

    check()
    assert len(found) > 1  # some with seams and some without: the comparison could have failed


@pytest.mark.parametrize("variant", PREFIXING, ids=lambda variant: next(iter(variant)))
def test_ids_are_those_of_joint_tokenization_where_there_is_no_seam(make_tokenizer, variant):
    tokenizer = make_tokenizer(**variant)
    encoder = Encoder(tokenizer)

    @settings(max_examples=150, deadline=None, database=None)
    @given(rows)
    def check(pairs):
        encoded = encoder.encode_texts(Texts(*map(list, zip(*pairs, strict=True))))
        for (prompt, *responses), (prompt_ids, *response_ids) in zip(pairs, sides(encoded), strict=True):
            assert prompt_ids == ids_of(tokenizer, prompt)
            for response, ids in zip(responses, response_ids, strict=True):
                joint = ids_of(tokenizer, prompt + response)
                if joint[: len(prompt_ids)] == prompt_ids:
                    assert prompt_ids + ids == [*joint, EOS]

    check()


def test_a_word_split_between_prompt_and_response_is_a_seam_and_a_new_word_is_not(toy_tokenizer):
    encoder = Encoder(toy_tokenizer)
    assert toy_tokenizer.tokenize("hello") == ["hello"]
    assert encoder.encode_texts(Texts(["hel"], ["lo"], [" lo"])).seams == 1
    assert encoder.encode_texts(Texts(["Assistant:"], [" hello"], [" there"])).seams == 0


# A space that the tokenizer puts before a text.


def test_a_response_gets_no_space_before_it_that_is_not_in_the_data(make_tokenizer):
    tokenizer = make_tokenizer(metaspace=True, corpus=["hello there"])
    assert tokenizer.tokenize("hello") == ["▁hello"]
    [(prompt, chosen, rejected)] = encode_text(tokenizer, ("there:", "hello", " hello"))
    assert tokenizer.convert_ids_to_tokens(prompt)[0] == "▁there"
    assert "▁" not in "".join(tokenizer.convert_ids_to_tokens(chosen))
    assert tokenizer.convert_ids_to_tokens(rejected) == ["▁hello", "</s>"]


def test_a_seam_keeps_the_prompts_own_ids_and_puts_no_space_before_the_response(make_tokenizer):
    tokenizer = make_tokenizer(metaspace=True, corpus=["hello hello"])
    assert tokenizer.tokenize("hello") == ["▁hello"]
    encoder = Encoder(tokenizer)
    encoded = encoder.encode_texts(Texts(["hel"], ["lo"], ["lo"]))
    assert encoded.seams == 2
    [(prompt, chosen, _)] = sides(encoded)
    assert prompt == ids_of(tokenizer, "hel")
    assert tokenizer.convert_ids_to_tokens(chosen)[0] in ("l", "lo")


def test_a_conversation_has_the_ids_of_its_whole_rendering(make_tokenizer):
    tokenizer = make_tokenizer(metaspace=True, template="<s>" + CHATML, eos_token="<|im_end|>")
    encoder = Encoder(tokenizer)
    texts = encoder.render([HELLO], [[assistant("hello there")]], [[assistant("what")]])
    [(prompt, chosen, _)] = sides(encoder.encode_rendered(texts))
    messages = [*HELLO, assistant("hello there")]
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert prompt == tokenizer.apply_chat_template(HELLO, add_generation_prompt=True, return_dict=False)
    # All but the line break behind the end of the turn.
    assert whole[: len(prompt + chosen)] == prompt + chosen
    assert tokenizer.decode(whole[len(prompt + chosen) :]).strip() == ""


def test_truncation_and_padding_of_a_tokenizer_that_prefixes_a_space_change_nothing(make_tokenizer):
    tokenizer = make_tokenizer(metaspace=True)
    rows = [("hello there", "hello world", " that"), ("hel", "lo", "x")]
    expected = encode_text(tokenizer, *rows)
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert encode_text(tokenizer, *rows) == expected


# Loading and hashing tokenizers.
