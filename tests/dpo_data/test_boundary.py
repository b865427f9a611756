"""Where a prompt ends and a response begins: parts of one text, or turns of a dialogue."""

import pytest

from dpo_data.boundary import are_parts_of_one_text, meet_in_white_space


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("How do I keep bread?\n", "Wrap it."),
        ("How do I keep bread?", " Wrap it."),
        ("How do I keep bread?", "\u3000Wrap it."),
        ("\n\nHuman: Hi\n\nAssistant:", " Hello"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Hello<|im_end|>"),
        ("<|user|>Hi<|assistant|>", "Hello"),
        ("[INST] Hi [/INST]", "Hello"),
        ("<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model", "Hello"),
        ("<\uff5cUser\uff5c>Hi<\uff5cAssistant\uff5c>", "Hello"),
        ("Hi", "<|im_start|>assistant\nHello"),
        ("", "Hello"),
        ("Hi", ""),
    ],
)
def test_white_space_and_special_tokens_separate_a_response_from_its_prompt(prompt, response):
    assert meet_in_white_space(prompt, response)
    assert are_parts_of_one_text(prompt, response)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("\n\nHuman: Hi\n\nAssistant:", "Hello"),
        ("A long post.\n\nTL;DR:", "Short."),
        ("A long post. TL;DR:", "Short."),
        ("### Instruction:\nSay hello.\n\n### Response:", "Hello"),
        ("### Instruction\nSay hello.\n\n### Response", "Hello"),
        ("USER: Hi ASSISTANT:", "Hello"),
        ("Question: Who?\n**Answer:**", "I."),
        ("Q: Who?\nA:", "I."),
        ("\u95ee\uff1a\u8c01\uff1f\n\u56de\u7b54\uff1a", "\u6211"),
        ("Hi", "Assistant: Hello"),
        ("Hi", "### Response:\nHello"),
        ("x" * 1000 + "\nAnswer:", "I."),
    ],
)
def test_markers_make_prompt_and_response_parts_of_one_text(prompt, response):
    assert are_parts_of_one_text(prompt, response)
    assert not meet_in_white_space(prompt, response)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("How do I keep bread?", "Wrap it in a cloth."),
        ("\u9762\u5305\u600e\u4e48\u4fdd\u5b58\uff1f", "\u7528\u5e03\u5305\u597d\u3002"),
        ("Complete the sentence:", "It rains."),
        ("Give me an answer:", "No."),
        ("Is 2 < 3 or 3 > 2 |>", "Both."),
        ("Hi", "Here is the answer: no."),
        ("Hi", "Assistants are kind."),
        ("What does the label Answer: mean?", "It announces one."),
    ],
)
def test_other_texts_are_turns(prompt, response):
    assert not are_parts_of_one_text(prompt, response)
