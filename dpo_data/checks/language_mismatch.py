"""A response in another language than its prompt."""

import re
from functools import cache, lru_cache
from typing import Any

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import last_user_turn
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Letters that a text must have to be classified: of 1,400 English responses of hh-rlhf, none with more was misjudged.
MIN_LETTERS = 20
#: Letters of scripts whose every character is about a word or a syllable.
MIN_UNSPACED = 8
#: Probability that the most likely of 140 languages must have, to be counted and to be reported.
MIN_CONFIDENCE, MIN_REPORTED = 0.5, 0.9
#: ISO 639 code for content without language, such as code and tables.
NO_LANGUAGE = "zxx"
#: Characters that are classified.
MAX_CHARACTERS = 600
#: Languages so close that short texts of one are taken for the other.
CLOSE = (
    {"no", "nb", "nn", "da", "sv"},
    {"hr", "bs", "sr", "sl"},
    {"id", "ms", "jv"},
    {"es", "gl", "pt", "an"},
    {"cs", "sk"},
)
#: Lines and quotations of a prompt that are classified by themselves.
PART = re.compile(r"[\n\"\u201c\u201d\u201e\u00ab\u00bb:\uff1a]+")
#: Verbs that ask for a translation, as stems in lower case.
TRANSLATE = re.compile(
    r"translat|\u00fcbersetz|tradu[ckiz\u00e7]|перев(?:од|ед)|翻译|翻譯|译成|译文|訳し|訳せ|和訳|英訳|翻訳|번역|ترجم|\u00e7evir|przet\u0142umacz|vertaal"
    r"|terjemah|d\u1ecbch sang|अनुवाद"
)


@cache
def _identifier() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=8)
def _classify(text: str) -> tuple[str | None, float]:
    """Return the most likely language and its probability; None if the text is too short or has no language."""
    text = text[:MAX_CHARACTERS]
    letters = [letter for letter in text if letter.isalpha()]
    minimum = MIN_UNSPACED if sum(letter >= "\u0e00" for letter in letters) > len(letters) / 2 else MIN_LETTERS
    if len(letters) < minimum:
        return None, 0.0
    language, confidence = _identifier().classify(text)
    return (None, 0.0) if language == NO_LANGUAGE else (language, float(confidence))


def language_of(text: str) -> str | None:
    """Return the ISO 639 code of the language of a text, or None if it is too short or no language is likely enough.

    Needs py3langid, which includes its model.

    >>> language_of("How do I tie a bow with two ends of the same length?")
    'en'
    >>> language_of("Ok, thanks!")
    """
    language, confidence = _classify(text)
    return language if confidence >= MIN_CONFIDENCE else None


def languages(pair: PreferencePair, texts: PairTexts) -> tuple[str | None, str | None, str | None]:
    """Return the languages of the last user turn, of chosen and of rejected."""
    _, chosen, rejected = texts
    return language_of(last_user_turn(pair)), language_of(chosen), language_of(rejected)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response is certainly in another language than the last user turn; needs Babel too.

    A prompt that asks for a translation, names the language of the response, or has a line in it, expects it.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected is in fr, the prompt in en.'
    """
    turn = last_user_turn(pair)
    prompt_language, confidence = _classify(turn)
    if prompt_language is None or confidence < MIN_REPORTED:
        return None
    for field, text in zip(("chosen", "rejected"), texts[1:], strict=True):
        language, confidence = _classify(text)
        if (
            language is not None
            and language != prompt_language
            and confidence >= MIN_REPORTED
            and not any({language, prompt_language} <= group for group in CLOSE)
            and not _expects(turn, prompt_language, language)
        ):
            return Finding(field, f"{field} is in {language}, the prompt in {prompt_language}.")
    return None


def _expects(turn: str, prompt_language: str, language: str) -> bool:
    """Return True if a prompt in one language may well be answered in another."""
    lower = turn.casefold()
    if TRANSLATE.search(lower):
        return True
    if any(stem in lower for spoken in (prompt_language, "en", language) if (stem := _name_stem(spoken, language))):
        return True
    return any(
        _classify(part)[0] == language and _classify(part)[1] >= MIN_REPORTED
        for part in PART.split(turn)
        if len(part) < len(turn)
    )


@cache
def _name_stem(spoken: str, language: str) -> str:
    """Return the name of a language in a language that is spoken, without the ending that inflection changes."""
    from babel import Locale, UnknownLocaleError

    try:
        name = str(Locale(spoken).languages.get(language, ""))
    except (UnknownLocaleError, ValueError):
        return ""
    return name.casefold()[: max(4, len(name) - 2)]


CHECK = RowCheck(
    code="language_mismatch",
    severity="warning",
    summary="a response is in another language than its prompt",
    hint="The model would learn to switch languages: check that the prompt, or an earlier turn, asks for it.",
    find=find,
    example=TextPair(
        prompt="How do I tie a bow with two ends? Tell me slowly, please.",
        chosen="Cross the ends.",
        rejected="Croise les deux bouts, puis passe l'un sous l'autre.",
    ),
)
