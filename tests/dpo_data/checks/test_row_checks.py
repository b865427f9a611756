"""Row checks: each finds its defects and passes clean rows; --forbid and --allow change severities."""

import pytest

from dpo_data import convert
from dpo_data.checks import CHECKS, ROW_CHECKS, run_row_checks, select_row_checks
from dpo_data.checks.check import Finding
from dpo_data.checks.eos_in_response import for_tokenizer
from dpo_data.errors import ROW_ERRORS, UsageError
from dpo_data.records import ConversationalPair, Message, PreferencePair, TextPair

ASK = "\n\nHuman: How do I tie a bow?\n\nAssistant:"
CLEAN_TEXT = TextPair(prompt=ASK, chosen=" Cross the ends.", rejected=" Ask your mother.")


def text(prompt: str = ASK, chosen: str = " Cross the ends.", rejected: str = " Ask your mother.") -> TextPair:
    return TextPair(prompt=prompt, chosen=chosen, rejected=rejected)


def talk(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=content) for role, content in turns]


def messages(prompt: list[Message], chosen: list[Message], rejected: list[Message]) -> ConversationalPair:
    return ConversationalPair(prompt=prompt, chosen=chosen, rejected=rejected)


BOW = talk(("user", "How do I tie a bow?"))
YES, NO = talk(("assistant", "Cross the ends.")), talk(("assistant", "Ask your mother."))
CLEAN_MESSAGES = messages(BOW, YES, NO)


def scored(chosen: float | None, rejected: float | None, margin: float | None = None) -> TextPair:
    return CLEAN_TEXT.model_copy(update={"chosen_score": chosen, "rejected_score": rejected, "margin": margin})


#: Code, pair, field, message.
DEFECTS: list[tuple[str, PreferencePair, str, str]] = [
    ("empty_prompt", text(prompt=""), "prompt", "prompt is empty."),
    ("empty_prompt", text(prompt=" \n\u00a0\t"), "prompt", "prompt is empty."),
    ("empty_prompt", text(prompt="\n\nHuman: \n\nAssistant:"), "prompt", "prompt is empty."),
    ("empty_prompt", messages(talk(("user", " ")), YES, NO), "prompt", "prompt is empty."),
    ("empty_response", text(chosen=""), "chosen", "chosen is empty."),
    ("empty_response", text(rejected=" \n\u2003"), "rejected", "rejected is empty."),
    ("empty_response", messages(BOW, talk(("assistant", "")), NO), "chosen", "chosen is empty."),
    ("identical_responses", text(rejected=" Cross the ends."), "rejected", "chosen and rejected are the same text."),
    (
        "identical_responses",
        text(rejected="Cross\u00a0the \n ends. "),
        "rejected",
        "chosen and rejected differ only in whitespace or Unicode normalization.",
    ),
    (
        "identical_responses",
        text(chosen="\u00e9t\u00e9", rejected="e\u0301te\u0301"),
        "rejected",
        "chosen and rejected differ only in whitespace or Unicode normalization.",
    ),
    ("identical_responses", messages(BOW, YES, YES), "rejected", "chosen and rejected are the same text."),
    (
        "repeated_role",
        text(prompt="\n\nHuman: Hi\n\nHuman: Ho" + ASK),
        "prompt",
        "prompt has two Human turns in a row.",
    ),
    ("repeated_role", text(chosen=" a\n\nAssistant: b"), "chosen", "chosen has two Assistant turns in a row."),
    (
        "repeated_role",
        messages(BOW, YES, [*NO, *NO]),
        "rejected",
        "rejected has two assistant turns in a row.",
    ),
    (
        "role_marker_in_response",
        text(chosen=" Yes.\nHuman: Thanks"),
        "chosen",
        'chosen has a line that starts with "Human:".',
    ),
    (
        "role_marker_in_response",
        text(rejected="Assistant: No"),
        "rejected",
        'rejected has a line that starts with "Assistant:".',
    ),
    (
        "role_marker_in_response",
        messages(BOW, YES, talk(("assistant", "No.\n \tUser: why"))),
        "rejected",
        'rejected has a line that starts with "User:".',
    ),
    (
        "bad_characters",
        text(chosen=" Like th\ufffds."),
        "chosen",
        "chosen contains a replacement character (U+FFFD): bytes were lost in decoding.",
    ),
    ("bad_characters", text(rejected=" \x00"), "rejected", "rejected contains a control character (U+0000)."),
    ("bad_characters", text(prompt="\x1b[0m" + ASK), "prompt", "prompt contains a control character (U+001B)."),
    ("bad_characters", text(chosen="caf\x85"), "chosen", "chosen contains a control character (U+0085)."),
    ("bad_characters", text(chosen="\x7f"), "chosen", "chosen contains a control character (U+007F)."),
    (
        "response_repeats_prompt",
        text(chosen=" How do I tie a bow? Cross the ends."),
        "chosen",
        "chosen starts with the prompt.",
    ),
    (
        "response_repeats_prompt",
        text("What is the capital of Peru?", "Lima", "What is the capital of Peru? Lima"),
        "rejected",
        "rejected starts with the prompt.",
    ),
    (
        "response_repeats_prompt",
        messages(BOW, YES, talk(("assistant", "How do I tie a bow? No."))),
        "rejected",
        "rejected starts with the prompt.",
    ),
    *(
        (
            "template_marker",
            text(chosen=f" Yes.{marker} more"),
            "chosen",
            f'chosen contains the chat template marker "{marker}".',
        )
        for marker in (
            *("<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<|eot_id|>", "<extra_id_1>"),
            *("<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|user|>", "<|channel|>"),
            *("<|START_OF_TURN_TOKEN|>", "<\uff5cUser\uff5c>"),
        )
    ),
    (
        "template_marker",
        messages(talk(("user", "<<SYS>> Be kind.")), YES, NO),
        "prompt",
        'prompt contains the chat template marker "<<SYS>>".',
    ),
    *(
        (
            "eos_in_response",
            text(rejected=f" No.{eos}"),
            "rejected",
            f'rejected contains "{eos}", which many tokenizers read as the end of the sequence.',
        )
        for eos in ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
    ),
    ("null_response", text(chosen=" NaN\n"), "chosen", 'chosen is "NaN".'),
    ("null_response", messages(BOW, YES, talk(("assistant", "None"))), "rejected", 'rejected is "None".'),
    ("scores_against_label", scored(1, 4.5), "chosen_score", "rejected has a higher score (4.5) than chosen (1)."),
    ("scores_against_label", scored(None, None, -2), "margin", "the margin is -2, so rejected is better."),
]

#: Pairs that resemble a defect but must pass.
CLEAN: list[PreferencePair] = [
    CLEAN_TEXT,
    CLEAN_MESSAGES,
    text("Hi", " Hi there", " Hi!"),  # good answers also repeat short prompts
    text(chosen=" Humans: yes. A Human: no.", rejected=" The Assistant:"),
    text(chosen=" Tabs\tand\r\nlines", rejected=" caf\u00e9 \u00a0 \u200b \U0001f600 \u2028"),
    text(chosen=" cross the ends.", rejected=" Cross the ends."),
    text(chosen=" a b", rejected=" ab"),
    text(prompt="\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: How do I tie a bow?\n\nAssistant:"),
    messages(
        [*talk(("system", "Be brief."), ("system", "Be kind.")), *BOW],
        talk(("assistant", "Let me look."), ("tool", "1"), ("tool", "2"), ("assistant", "So.")),
        NO,
    ),
    messages(talk(("user", ""), ("assistant", ""), ("user", "Who are you?")), YES, NO),
    text(chosen=" <p>a < b</p> <s> [1] [inst]", rejected=" vector<int> x; if (a <| b) {} // INST"),
    text(prompt="What does </s> mean?"),  # a prompt may be about it
    scored(4, 1, 3),
    scored(2, 2, 0),
    scored(None, 3),
]


def finding(code: str, pair: PreferencePair) -> Finding | None:
    return CHECKS[code].find(pair, pair.texts)


def codes(pair: PreferencePair) -> list[str]:
    return [check.code for check, _ in run_row_checks(pair, ROW_CHECKS)]


@pytest.mark.parametrize(("code", "pair", "field", "message"), DEFECTS)
def test_a_check_finds_its_defect_and_names_the_field(code, pair, field, message):
    assert finding(code, pair) == (field, message)
    assert code in codes(pair)


@pytest.mark.parametrize("pair", CLEAN)
def test_a_clean_pair_passes_every_check(pair):
    assert codes(pair) == []


def test_pairs_that_cannot_be_trained_on_are_errors_and_other_findings_are_warnings():
    expected = {
        "empty_prompt": "error",
        "empty_response": "error",
        "identical_responses": "error",
        "repeated_role": "warning",
        "role_marker_in_response": "warning",
        "bad_characters": "warning",
        "response_repeats_prompt": "warning",
        "template_marker": "warning",
        "eos_in_response": "warning",
        "null_response": "warning",
        "scores_against_label": "warning",
    }
    severities = {check.code: check.severity for check in ROW_CHECKS}
    assert severities | expected == severities


def test_the_eos_text_of_a_tokenizer_is_found_besides_the_common_ones():
    check = for_tokenizer(CHECKS["eos_in_response"], "[SEP]")
    assert (check.code, check.severity) == ("eos_in_response", "warning")
    own, common = text(chosen="a[SEP]"), text(chosen="a</s>")
    message = 'chosen contains "[SEP]", which the tokenizer reads as the end of the sequence.'
    assert check.find(own, own.texts) == ("chosen", message)
    assert check.find(common, common.texts).field == "chosen"
    assert check.find(CLEAN_TEXT, CLEAN_TEXT.texts) is None


def test_a_pair_may_have_several_warnings_but_checking_stops_at_the_first_error():
    pair = text(chosen=" \ufffd\n\nAssistant: x")
    assert codes(pair) == ["repeated_role", "role_marker_in_response", "bad_characters"]
    assert codes(text(prompt="", chosen="", rejected="\x00")) == ["empty_prompt"]


# Changed severities.

ROWS = [
    {"prompt": "One?", "chosen": " a", "rejected": " b"},
    {"prompt": "Two?", "chosen": " a\x00", "rejected": " b"},
    {"prompt": "Three?", "chosen": " a", "rejected": " a"},
]


def test_by_default_errors_are_quarantined_and_warnings_are_kept(tmp_path, write_rows):
    manifest = convert(
        "pairs", [write_rows(tmp_path / "a.jsonl", ROWS)], output=tmp_path / "out", max_invalid=1, form="text"
    )
    assert manifest.quarantined_by_code == {"identical_responses": 1}
    assert {code: warned.rows for code, warned in manifest.warnings.items()} == {"bad_characters": 1}


def test_a_forbidden_warning_is_quarantined_and_an_allowed_error_is_kept(tmp_path, write_rows):
    raw = write_rows(tmp_path / "a.jsonl", ROWS)
    manifest = convert(
        "pairs",
        [raw],
        output=tmp_path / "out",
        max_invalid=1,
        forbid=["bad_characters"],
        allow=["identical_responses"],
        form="text",
    )
    assert manifest.quarantined_by_code == {"bad_characters": 1}
    assert {code: (w.rows, w.examples) for code, w in manifest.warnings.items()} == {
        "identical_responses": (1, [f"{tmp_path.name}/a.jsonl:3: chosen and rejected are the same text."])
    }
    assert (manifest.options.forbid, manifest.options.allow) == (["bad_characters"], ["identical_responses"])


@pytest.mark.parametrize("code", ROW_ERRORS)
@pytest.mark.parametrize("option", ["forbid", "allow"])
def test_row_errors_cannot_be_forbidden_or_allowed(code, option):
    with pytest.raises(UsageError) as caught:
        select_row_checks(**{option: [code]})
    assert str(caught.value) == f"{code} cannot be allowed or forbidden, because such a row has no pair to keep."


@pytest.mark.parametrize("code", ["duplicate_pair", "nonsense"])
def test_other_codes_are_refused_with_the_codes_of_all_row_checks(code):
    with pytest.raises(UsageError) as caught:
        select_row_checks(forbid=[code])
    assert str(caught.value) == (
        f"{code} is not the code of a row check.\n"
        f"  Row checks: {', '.join(sorted(check.code for check in ROW_CHECKS))}."
    )


def test_a_code_cannot_be_both_forbidden_and_allowed():
    with pytest.raises(UsageError) as caught:
        select_row_checks(forbid=["bad_characters"], allow=["bad_characters"])
    assert str(caught.value) == "bad_characters: both forbidden and allowed. Name each code once."
