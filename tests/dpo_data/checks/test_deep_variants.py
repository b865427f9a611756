"""Row checks in `validate --deep`: they find more than in `convert`, as warnings, and pass what only resembles it."""

import sys
from pathlib import Path

import pytest

from dpo_data.checks import CHECKS
from dpo_data.checks.personal_data import redact, redact_json, redact_value
from dpo_data.checks.refusal_against_refusal import is_refusal
from dpo_data.inspect.findings import deepened
from dpo_data.inspect.validation import validate
from dpo_data.records import TextPair

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))

ASKED = "How should I tie a bow with the two ends of this string, and which one goes first?"
LONG = "First we cross the two ends. Then we pull the left one through."


def text(prompt: str = "How do I tie a bow, and why?", chosen: str = LONG, rejected: str = "Ask her.") -> TextPair:
    return TextPair(prompt=prompt, chosen=chosen, rejected=rejected)


def found(code: str, pair: TextPair) -> str | None:
    (check,) = list(deepened([CHECKS[code]]))[-1:]
    finding = check.find(pair, pair.texts)
    return finding and finding.field


@pytest.mark.parametrize(
    ("code", "pair", "field"),
    [
        ("empty_prompt", text(prompt="\u200b\u2060"), "prompt"),
        ("empty_response", text(chosen="\u3164 \ufe0f"), "chosen"),
        ("role_marker_in_response", text(rejected="Yes.\n\nuser: why?"), "rejected"),
        ("role_marker_in_response", text(rejected="Ja.\n**Benutzer:** Danke"), "rejected"),
        ("role_marker_in_response", text(rejected="好的。\n用户：谢谢"), "rejected"),
        ("role_marker_in_response", text(rejected="Yes.\n[Assistant] No."), "rejected"),
        ("bad_characters", text(chosen="Die Stra\u00c3\u0178e ist l\u00c3\u00a4nger."), "chosen"),
        ("bad_characters", text(chosen="abc\u202edef"), "chosen"),
        ("response_repeats_prompt", text(chosen='"HOW DO I TIE A BOW, AND WHY"  Like this.'), "chosen"),
        ("response_repeats_prompt", text("Why do the leaves of these trees turn red?", LONG + " Why do the leaves of"
                                         " these trees turn red?"), "chosen"),
        ("eos_in_response", text(chosen="Yes.<|im_end|>"), "chosen"),
        ("cut_off_response", text(chosen=LONG + " And that is because the"), "chosen"),
        ("cut_off_response", text(chosen=LONG + " Now a physiotherapist can help you with resu"), "chosen"),
        ("cut_off_response", text(chosen=LONG + "\n```python\nx = 1"), "chosen"),
        ("cut_off_response", text(chosen="先把两头交叉。再把左边拉过去。最后打一个结。然后把它们放在阴凉干"), "chosen"),
        ("language_mismatch", text(ASKED, rejected="Zuerst kreuzen wir beide Enden, dann ziehen wir."), "rejected"),
    ],
)  # fmt: skip
def test_deep_variants_find_altered_faults(code, pair, field):
    assert found(code, pair) == field


@pytest.mark.parametrize(
    ("code", "pair"),
    [
        ("role_marker_in_response", text(chosen="A list:\nSystem: Linux\nBrowser: Firefox")),
        ("role_marker_in_response", text(chosen="Set it.\n```yaml\nuser: admin\n```")),
        ("bad_characters", text(chosen="São Paulo NÃO É longe, naïve café “x” 👩‍💻 🏴󠁧󠁢󠁥󠁮󠁧󠁿.")),
        ("response_repeats_prompt", text(chosen="How do I tie it? Like this.")),
        ("cut_off_response", text(chosen=LONG + " I am really sorry for them")),
        ("cut_off_response", text(chosen=LONG + "\n\n- red wool\n- blue wool")),
        ("language_mismatch", text(ASKED + " Translate it.", "Zuerst kreuzen wir die beiden Enden, dann ziehen wir.")),
        ("language_mismatch", text(ASKED + " In German.", "Zuerst kreuzen wir die beiden Enden, dann ziehen wir.")),
    ],
)
def test_look_alikes_of_faults_pass(code, pair):
    assert found(code, pair) is None


@pytest.mark.parametrize(
    "refusal",
    [
        "I'd rather not answer that.", "That's not something I can help with.", "Ich muss diese Bitte ablehnen.",
        "Je ne peux pas vous aider.", "No puedo ayudarte con eso.", "Não posso ajudar com isso.",
        "Non posso aiutarti.", "Я не могу с этим помочь.", "抱歉，我无法回答这个问题。",
        "申し訳ありませんが、お答えできません。", "도와드릴 수 없습니다.",
    ],
)  # fmt: skip
def test_refusals_are_recognized_in_ten_languages(refusal):
    assert is_refusal(refusal)


@pytest.mark.parametrize(
    "answer",
    [
        "I can't help but smile.", "I can't tell you how happy I am.", "He couldn't help her, so she left.",
        "Ich kann dieses Buch nur empfehlen.", "No puedo dejar de recomendar este libro.", "他没能帮她提行李。",
    ],
)  # fmt: skip
def test_sentences_with_the_words_of_refusals_are_no_refusals(answer):
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("raw", "redacted"),
    [
        ("请在星期五之前打138 1234 5678给我，谢谢你们。", "请在星期五之前打[PHONE]给我，谢谢你们。"),
        ("Rufen Sie die Praxis bitte unter 030 23125000 an.", "Rufen Sie die Praxis bitte unter [PHONE] an."),
        ("Set glpat-a1B2c3D4e5F6g7H8i9J0 now.", "Set [KEY] now."),
        ("Set github_pat_" + "a1B2c3D4e5" * 6 + " now.", "Set [KEY] now."),
        ("aws_secret_access_key = " + "a1B2c3D4e5" * 4, "[KEY]"),
        ("Open https://jo:pa55@host.org/x.", "Open https://[KEY]@host.org/x."),
        ("Pay to DE89 3704 0044 0532 0130 00 today.", "Pay to [IBAN] today."),
        ("git clone git@github.com:acme/tool.git", None),
        ("Use logo@2x.png and @media (max-width: 600px).", None),
        ("ISBN 978-3-16-148410-0, 0-306-40615-2", None),
        ("1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610", None),
        ("4000 5000 6000 7000 8000", None),
    ],
)
def test_keys_and_national_phone_numbers_are_redacted_and_code_is_not(raw, redacted):
    assert redact(raw)[0] == (redacted or raw)


def test_json_stays_json_when_it_is_redacted():
    assert redact_json('{"a":"x\\njo@example.org","n":4111111111111111}')[0] == '{"a":"x\\n[EMAIL]","n":"[CARD]"}'
    assert redact_json('{"a": "jo\\u0040example.org", "b')[0] == '{"a": "[EMAIL]", "b'
    assert redact_value({"jo@example.org": True}) == ({"[EMAIL]": True}, {"email": 1})


def test_errors_keep_their_check_and_what_only_the_deep_check_finds_is_a_warning(make_prepared):
    error, warning = deepened([CHECKS["empty_response"]])
    assert (error.severity, warning.severity) == ("error", "warning")
    rows = [
        {"prompt": "Who are you?\n", "chosen": "A robot.", "rejected": "\u200b"},
        {"prompt": "Why, and how?\n", "chosen": "So.", "rejected": "No."},
    ]
    report = validate(make_prepared(rows), deep=True)
    assert {code: (finding.severity, finding.rows) for code, finding in report.findings.items()} == {
        "empty_response": ("warning", 1)
    }
    assert validate(make_prepared(rows, "again")).findings == {}


def test_most_planted_faults_in_five_languages_are_found_and_few_clean_rows_are_reported():
    from planted_faults import measure

    rates = measure("development", seed=3, per_code=4, clean=80)
    assert rates.found.total() >= 0.95 * rates.planted.total()
    assert rates.false.total() <= 3
