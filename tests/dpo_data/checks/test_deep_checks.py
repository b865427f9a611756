"""Deep checks: each finds its defects and passes clean rows, and validate reports findings with their origins."""

import json
import sys

import pytest
from typer.testing import CliRunner

from dpo_data import convert
from dpo_data.checks import CHECKS, DEEP_DATASET_CHECKS, DEEP_ROW_CHECKS
from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.contamination import contamination
from dpo_data.checks.language_mismatch import language_of
from dpo_data.checks.near_prompts import NearPrompts
from dpo_data.checks.personal_data import redact
from dpo_data.cli.app import app
from dpo_data.errors import InputError, UsageError
from dpo_data.inspect.validation import ValidationReport, validate
from dpo_data.records import ConversationalPair, Message, PreferencePair, TextPair

ASK = "\n\nHuman: How do I tie a bow with two ends?\n\nAssistant:"
ADVICE = " Cross the two ends, pull the left one under the right one, make a loop of each, and draw both of them tight."
FRENCH = " Croise les deux bouts, puis passe celui de gauche sous celui de droite et tire doucement."
GERMAN = " Lege die beiden Enden über Kreuz und ziehe dann das linke unter dem rechten durch."


def text(prompt: str = ASK, chosen: str = ADVICE, rejected: str = " Ask your mother.") -> TextPair:
    return TextPair(prompt=prompt, chosen=chosen, rejected=rejected)


def talk(prompt: str, chosen: str, rejected: str) -> ConversationalPair:
    def turn(role: str, content: str) -> list[Message]:
        return [Message(role=role, content=content)]

    return ConversationalPair(
        prompt=turn("user", prompt), chosen=turn("assistant", chosen), rejected=turn("assistant", rejected)
    )


#: Long enough for its end to be checked.
SENTENCES = "Cross the two ends first. Then pull the left one under the right one, and hold on"

#: Code, pair, field, message.
DEFECTS: list[tuple[str, PreferencePair, str, str]] = [
    (
        "near_identical_responses",
        text(rejected=ADVICE.replace("tight", "taut")),
        "rejected",
        "chosen and rejected are 97% identical.",
    ),
    (
        "near_identical_responses",
        talk("Bow?", ADVICE, f"{ADVICE} "),
        "rejected",
        "chosen and rejected are 99% identical.",
    ),
    (
        "cut_off_response",
        text(chosen=f" {SENTENCES} to the"),
        "chosen",
        'chosen ends in the middle of a sentence: "... and hold on to the".',
    ),
    (
        "cut_off_response",
        text(rejected=f" {SENTENCES} to both of them,\n"),
        "rejected",
        'rejected ends in the middle of a sentence: "... on to both of them,".',
    ),
    (
        "cut_off_response",
        # The part of a long line that is checked starts like a list item.
        text(chosen=f" {'It is so. ' * 40}{SENTENCES} with both of your hands to the loop of its own free will and"),
        "chosen",
        'chosen ends in the middle of a sentence: "... its own free will and".',
    ),
    (
        "cut_off_response",
        talk("Bow?", ADVICE, SENTENCES),
        "rejected",
        'rejected ends in the middle of a sentence: "... right one, and hold on".',
    ),
    ("language_mismatch", text(chosen=FRENCH), "chosen", "chosen is in fr, the prompt in en."),
    ("language_mismatch", text(rejected=GERMAN), "rejected", "rejected is in de, the prompt in en."),
    (
        "language_mismatch",
        talk("Wie binde ich eine Schleife mit zwei Enden?", ADVICE, GERMAN),
        "chosen",
        "chosen is in en, the prompt in de.",
    ),
    ("personal_data", text(chosen=" Ask jo@example.org."), "chosen", "chosen contains personal data: 1 email."),
    (
        "personal_data",
        text(prompt=f"Call 212-555-0199 or +44 20 7946 0018. {ASK}"),
        "prompt",
        "prompt contains personal data: 2 phone.",
    ),
    *(
        (
            "refusal_against_refusal",
            text(chosen=chosen, rejected=rejected),
            "rejected",
            "chosen and rejected both open with a refusal.",
        )
        for chosen, rejected in (
            (" I'm sorry, but I can't help with that.", " I cannot do that."),
            (" Sorry, no.", " As an AI language model, I am not able to say."),
            (" I\u2019m really not able to answer.", " I won't tell you, since it is secret."),
            (" I must decline.", " I'm sorry. I don't feel comfortable giving advice on it."),
        )
    ),
]

#: Pairs that resemble a defect but must pass.
CLEAN: list[PreferencePair] = [
    text(),
    talk("Bow?", ADVICE, "No."),
    text(chosen=" Yes, 4.", rejected=" Yes, 5."),
    text(chosen=" Oui, merci.", rejected=" Ja."),  # too short to classify
    text(chosen=" ```python\nfor i in range(10):\n    print(i, x[i])\n```"),
    talk("Comment faire un joli noeud avec deux bouts ?", FRENCH, "Demande à ta mère, elle le sait mieux que moi."),
    text(chosen=" I can't wait to tell you!", rejected=" I'm sorry, I can't."),
    text(chosen=" I'm sorry, what did you say?", rejected=" Sorry, I don't understand."),
    text(chosen=" I'm sorry to hear that.", rejected=" I am afraid you need a rope, which I would not buy."),
    text(chosen=" I cannot do that.", rejected=" I can't praise it enough: cross the ends, and never let go."),
    text(chosen=" Use @property at 10:30 on 2023-11-05, version 3.11.7, order 4417-1234, pi 3.14159265358979."),
    text(chosen=" The ISBN is 978-3-16-148410-0, the row 4111111111111112, and $1,299.99 a 555-0199."),
    *(
        text(chosen=response)
        for response in (
            f" {SENTENCES}.",
            f" {SENTENCES}!\n",
            f" {SENTENCES} :)",
            f" {SENTENCES}:\n\n- the left end\n- the right end of the rope and the loop you have made",
            f" {SENTENCES}.\n\n1. the left end and then the right end of the rope",
            f" {SENTENCES}.\n\nYours,\nJo Miller",
            f" {SENTENCES}.\nSee https://example.org/knots/bow",
            f" {SENTENCES}.\nThe Knot House, 12 Rope Street, Portland, ME",
            " Cross the ends and then pull",
            " a rope and a knot and a bow and a loop and two hands and no more than ten fingers",
            " ```python\nprint(1)  # a comment that is long enough to be judged by its very end. Or\n```",
            " \u5148\u628a\u4e24\u7aef\u4ea4\u53c9\uff0c\u7136\u540e" * 12,
        )
    ),
]


def finding(check: RowCheck, pair: PreferencePair) -> Finding | None:
    return check.find(pair, pair.texts)


@pytest.mark.parametrize(("code", "pair", "field", "message"), DEFECTS)
def test_a_deep_check_finds_its_defect_and_names_the_field(code, pair, field, message):
    assert finding(CHECKS[code], pair) == (field, message)


@pytest.mark.parametrize("pair", CLEAN)
def test_a_clean_pair_passes_every_deep_check(pair):
    assert [check.code for check in DEEP_ROW_CHECKS if finding(check, pair)] == []


def test_deep_checks_only_warn():
    assert {check.severity for check in DEEP_ROW_CHECKS} == {"warning"}


@pytest.mark.parametrize(
    ("sentence", "language"),
    [
        ("How do I tie a bow with two ends?", "en"),
        (FRENCH, "fr"),
        (GERMAN, "de"),
        ("先把两端交叉，然后把左边的一端从右边的下面穿过去，轻轻拉紧。", "zh"),
        ("まず両端を交差させ、左の端を右の下に通して、ゆっくり引っ張ってください。", "ja"),
        ("Hello there", None),
        ("", None),
        ("<div class='row'><span id='a'>x</span></div>" * 3, None),
    ],
)
def test_sentences_have_a_language_but_fragments_and_code_have_none(sentence, language):
    assert language_of(sentence) == language


# Near-duplicate prompts.

LONG = "I have a long red rope with two frayed ends and would like to tie a neat bow around a gift for her party"


def test_prompts_are_near_if_they_differ_in_one_word_or_in_case_and_punctuation():
    near = NearPrompts()
    assert near.first_like(b"a", LONG) == b"a"
    assert near.first_like(b"b", LONG.upper() + "!!") == b"a"
    assert near.first_like(b"c", LONG.replace("party", "birthday")) == b"a"
    assert near.first_like(b"d", LONG.replace("red rope", "string").replace("gift", "box")) == b"d"
    assert near.first_like(b"e", "How?") == b"e"
    assert near.first_like(b"f", "how") == b"e"
    assert near.first_like(b"c", "whatever: the key decides") == b"a"


# Whole datasets.


def row(prompt: str, chosen: str = "a", rejected: str = "b") -> dict[str, str]:
    return {"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}


def warnings(report: ValidationReport) -> dict[str, tuple[int, list[str]]]:
    return {code: (finding.rows, finding.examples) for code, finding in report.findings.items()}


@pytest.fixture
def two_splits(tmp_path, write_rows):
    train = [
        row(LONG, "one", "two"),
        row(LONG.replace("party", "birthday"), "three", "four"),
        row("A riddle?", "The  Moon", "The sun"),
        row("a  riddle?", "the sun", "the moon"),
    ]
    test = [row(LONG.upper(), "five", "six"), row("Another thing?", "seven", "eight")]
    write_rows(tmp_path / "raw" / "train.jsonl", train)
    write_rows(tmp_path / "raw" / "test.jsonl", test)
    convert("pairs", [tmp_path / "raw"], output=tmp_path / "prepared", form="text")
    return tmp_path / "prepared"


def test_findings_about_near_prompts_and_normalized_swaps_name_both_rows(two_splits):
    report = validate(two_splits, deep=True)
    assert warnings(report) == {
        "swapped_duplicate": (
            1,
            [
                "raw/train.jsonl:4: the opposite preference of an earlier row, up to whitespace, case and Unicode "
                "normalization (raw/train.jsonl:3)."
            ],
        ),
        "near_duplicate_prompt": (
            2,
            [
                "raw/train.jsonl:2: the prompt is nearly identical to that of an earlier row (raw/train.jsonl:1).",
                "raw/train.jsonl:4: the prompt is nearly identical to that of an earlier row (raw/train.jsonl:3).",
            ],
        ),
        "near_prompt_in_two_splits": (
            1,
            ["raw/test.jsonl:1: the prompt is nearly identical to one in another split (raw/train.jsonl:1)."],
        ),
    }
    assert {finding.severity for finding in report.findings.values()} == {"warning"}
    assert set(report.findings) <= {check.code for check in DEEP_DATASET_CHECKS}


def test_without_deep_no_deep_check_runs(two_splits):
    report = validate(two_splits)
    assert (report.findings, report.languages, report.personal_data) == ({}, None, None)


def test_a_text_chosen_for_five_prompts_is_found_at_every_row_but_the_first(make_prepared):
    rows = [row(f"Question {number}?", "The service is unavailable.", f"answer {number}") for number in range(5)]
    rows += [
        row("Question 0?", "The service is unavailable.", "again"),
        row("Question 9?", "rare", "x"),
        row("Question 8?", "rare", "y"),
    ]
    found = warnings(validate(make_prepared(rows), deep=True))
    assert list(found) == ["one_response_for_many_prompts"]
    assert found["one_response_for_many_prompts"][0] == 5
    short = [row(f"Question {number}?", "Option B", f"answer {number}") for number in range(9)]
    assert warnings(validate(make_prepared(short, "short"), deep=True)) == {}
    fewer = [row(f"Question {number}?", "The service is unavailable.", f"answer {number}") for number in range(4)]
    assert warnings(validate(make_prepared(fewer, "fewer"), deep=True)) == {}


def test_languages_and_personal_data_are_counted_over_all_pairs(make_prepared):
    rows = [
        row("How do I tie a bow with two ends?", ADVICE, "Ask jo@example.org or 212-555-0199."),
        row("Wie binde ich eine Schleife mit zwei Enden?", GERMAN, "No."),
    ]
    report = validate(make_prepared(rows), deep=True)
    assert report.languages == {
        "prompt": {"en": 1, "de": 1},
        "chosen": {"en": 1, "de": 1},
        "rejected": {"undecided": 2},
    }
    assert report.personal_data == {"email": 1, "phone": 1}


def test_deep_checks_also_run_on_raw_pairs(tmp_path, write_rows):
    raw = write_rows(tmp_path / "raw" / "a.jsonl", [row("How do I tie a bow with two ends?", ADVICE, FRENCH)])
    report = validate(raw, deep=True)
    assert warnings(report) == {"language_mismatch": (1, ["raw/a.jsonl:1: rejected is in fr, the prompt in en."])}


def test_max_examples_limits_the_examples_of_each_finding(make_prepared):
    folder = make_prepared([row(f"Question {number}?", "yes\x00", "no") for number in range(9)])
    assert len(validate(folder).findings["bad_characters"].examples) == 5
    assert len(validate(folder, max_examples=100).findings["bad_characters"].examples) == 9


def test_with_a_tokenizer_its_eos_text_is_found_too(make_prepared, chat_tokenizer, toy_tokenizer):
    folder = make_prepared([row("Why?", "So<|im_end|>", "No"), row("How?", "So</s>", "No")])
    assert validate(folder).findings["eos_in_response"].rows == 1
    assert validate(folder, tokenizer=toy_tokenizer).findings["eos_in_response"].rows == 1
    assert validate(folder, tokenizer=chat_tokenizer).findings["eos_in_response"].rows == 2


# Evaluation sets.

RIDDLE = "What has keys but can not open even one single door in the whole wide world of mine?"


@pytest.mark.parametrize("name", ["riddles.txt", "riddles.jsonl", "riddles.csv"])
def test_text_of_an_evaluation_set_is_found_with_the_words_and_both_origins(tmp_path, make_prepared, name):
    texts = {
        "riddles.txt": f"short\n\n{RIDDLE}\n",
        "riddles.jsonl": json.dumps({"q": "short"}) + "\n" + json.dumps({"deep": [{"q": RIDDLE}]}) + "\n",
        "riddles.csv": f'q,n\nshort,1\n"{RIDDLE}",2\n',
    }
    origin = {"riddles.txt": "riddles.txt:3", "riddles.csv": "eval/riddles.csv:3"}.get(name, "eval/riddles.jsonl:2")
    evaluation = tmp_path / "eval" / name
    evaluation.parent.mkdir()
    evaluation.write_text(texts[name])
    rows = [row("Why?"), row("Answer me.", f"well: {RIDDLE.upper()}"), row("What has keys but can not open a door?")]
    report = validate(make_prepared(rows), against=[evaluation])
    shared = "what has keys but can not open even one single door in the"
    assert warnings(report) == {"contamination": (1, [f'raw/pairs.jsonl:2: chosen shares "{shared}" with {origin}.'])}


def test_an_evaluation_text_shorter_than_a_run_must_occur_as_a_whole(tmp_path):
    (tmp_path / "short.txt").write_text("What has keys but opens no door?\nWhat has keys but opens not one door?\n")
    check = contamination([tmp_path / "short.txt"])
    assert finding(check, text(prompt="Tell me: what has keys but opens no door?")) is None  # seven words
    assert finding(check, text(prompt="Tell me: what has keys but opens not one door, please?")) == (
        "prompt",
        'prompt shares "what has keys but opens not one door" with short.txt:2.',
    )


def test_an_evaluation_set_that_is_missing_broken_or_too_short_is_refused(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        contamination([tmp_path / "none.jsonl"])
    (tmp_path / "short.txt").write_text("too short\n")
    with pytest.raises(UsageError, match="has no new text of 8 words or more"):
        contamination([tmp_path / "short.txt"])
    (tmp_path / "broken.jsonl").write_text('{"a": "b"}\n{"a": \n')
    with pytest.raises(InputError, match=r"broken.jsonl:2: the line is not JSON"):
        contamination([tmp_path / "broken.jsonl"])


# The command line.


def test_validate_prints_languages_personal_data_and_findings(make_prepared, tmp_path):
    folder = make_prepared([row("How do I tie a bow with two ends?", ADVICE, f"{FRENCH} jo@example.org")])
    evaluation = tmp_path / "riddles.txt"
    evaluation.write_text(ADVICE)
    done = CliRunner().invoke(app, ["validate", str(folder), "--deep", "--against", str(evaluation)])
    assert done.exit_code == 0
    for expected in ("language_mismatch", "contamination", "personal_data", "riddles.txt:1", "language", "email"):
        assert expected in done.stdout
    done = CliRunner().invoke(app, ["validate", str(folder), "--deep", "--json", "--fail-on", "warning"])
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["personal_data"] == {"email": 1}
    assert report["languages"]["prompt"] == {"en": 1}


def test_a_missing_library_is_named_with_the_command_that_installs_it(make_prepared, monkeypatch):
    folder = make_prepared([row("Why?")])
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    with pytest.raises(UsageError) as caught:
        validate(folder, deep=True)
    assert str(caught.value).startswith('deep=True needs rapidfuzz.\n  Install: pip install "rapidfuzz>=')
    assert validate(folder).findings == {}


# Personal data.


@pytest.mark.parametrize(
    ("raw", "redacted", "kinds"),
    [
        ("jo.o'neil+x@mail.example.co.uk!", "jo.o'[EMAIL]!", {"email": 1}),
        (
            "(212) 555-0199, 1-800-555-0199, +49 30 901820, +1 (212) 555-0199",
            "[PHONE], [PHONE], [PHONE], [PHONE]",
            {"phone": 4},
        ),
        ("4111 1111 1111 1111 and 378282246310005", "[CARD] and [CARD]", {"card": 2}),
        ("AKIAIOSFODNN7EXAMPLE", "[KEY]", {"key": 1}),
        ("ghp_" + "a1B2" * 9, "[KEY]", {"key": 1}),
        ("sk-proj-" + "a1B2" * 9, "[KEY]", {"key": 1}),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----.", "[KEY].", {"key": 1}),
        ("a@b, @property, 10@20, user@localhost", "a@b, @property, 10@20, user@localhost", {}),
        ("4111 1111 1111 1112", "4111 1111 1111 1112", {}),
        ("2023-11-05 10:30:00, 3.14159265358979, 192.168.100.200, 1,234,567,890", None, {}),
        ("978-3-16-148410-0, 123-45-6789, 100 200 3000, 555-0199, 20231105123000", None, {}),
    ],
)
def test_personal_data_is_redacted_and_other_numbers_and_names_are_kept(raw, redacted, kinds):
    assert redact(raw) == (redacted or raw, kinds)
