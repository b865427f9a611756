"""Transcripts inside prompts, as messages."""

import pytest

from dpo_data.dialogue import in_form, reply_text, transcript_messages
from dpo_data.records import Message, Response, ScoredResponses


def turns(text: str) -> list[tuple[str, str]] | None:
    messages = transcript_messages(text)
    return None if messages is None else [(message.role, message.content) for message in messages]


@pytest.mark.parametrize(
    "transcript",
    [
        "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a river.\n\nAssistant:",
        "Human: Hi\nAssistant: Hello\nHuman: Name a river.\nAssistant:",
        "Human: Hi\n\nAssistant: Hello\n\nHuman: Name a river.\n\nAssistant: ",
        "\r\n\r\nHuman: Hi\r\n\r\nAssistant: Hello\r\n\r\nHuman: Name a river.\r\n\r\nAssistant:",
        "\n\nHuman: Hi\nAssistant: Hello\n\nHuman: Name a river.\nAssistant:",
        "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Name a river.",
        "### Human: Hi\n### Assistant: Hello\n### Human: Name a river.\n### Assistant:",
        "USER: Hi\nASSISTANT: Hello\nUSER: Name a river.\nASSISTANT:",
        "\n\nHuman:Hi\n\nAssistant:Hello\n\nHuman:Name a river.\n\nAssistant:",
    ],
)
def test_a_prompt_that_is_a_transcript_is_read_as_its_turns(transcript):
    assert turns(transcript) == [("user", "Hi"), ("assistant", "Hello"), ("user", "Name a river.")]


def test_blank_lines_separate_turns_where_they_give_a_dialogue():
    quoted = "\n\nHuman: Read this:\nHuman: Hi\nAssistant: Ho\n\nAssistant:"
    assert turns(quoted) == [("user", "Read this:\nHuman: Hi\nAssistant: Ho")]


def test_a_text_before_the_turns_is_a_system_message():
    assert turns("Be kind.\n\nHuman: Hi\n\nAssistant:") == [("system", "Be kind."), ("user", "Hi")]


def test_a_response_that_a_transcript_begins_stays_in_the_prompt():
    assert turns("\n\nHuman: Hi\n\nAssistant: Sure,") == [("user", "Hi"), ("assistant", "Sure,")]


@pytest.mark.parametrize(
    "text",
    [
        "Hi",
        "",
        "The Human: a film.",
        "Who said this?\nHuman: Hi\nAssistant: Hello",
        "Assistant: Hello\nHuman: Hi",
        "Humans: yes",
    ],
)
def test_other_prompts_are_not_transcripts(text):
    assert turns(text) is None


def test_many_line_breaks_are_searched_in_linear_time():
    assert turns("\n" * 200_000 + "Human: Hi" + "\n" * 200_000 + "Assistant:") == [("user", "Hi")]


def test_a_reply_loses_the_space_or_the_marker_that_it_begins_with():
    assert reply_text("  two spaces") == " two spaces"
    assert reply_text("\n\nAssistant: Hello") == "Hello"
    assert reply_text("Hello") == "Hello"


def test_responses_to_a_transcript_become_messages_without_the_leading_space():
    scored = ScoredResponses(
        prompt="\n\nHuman: Hi\n\nAssistant:",
        responses=[Response(content=" Yes", score=1), Response(content=" No", score=0)],
    )
    converted = in_form(scored, "conversational")
    assert converted.prompt == [Message(role="user", content="Hi")]
    assert [(response.content[0].content, response.score) for response in converted.responses] == [
        ("Yes", 1),
        ("No", 0),
    ]


def test_a_response_that_continues_the_prompt_keeps_its_space():
    scored = ScoredResponses(prompt="Human: Hi\nAssistant: Sure,", responses=[Response(content=" why not", score=1)])
    assert in_form(scored, "conversational").responses[0].content[0].content == " why not"
