"""A response in another language than its prompt."""

from functools import cache, lru_cache
from typing import Any

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import question
from dpo_data.records import PairTexts, PreferencePair

#: Letters from which a language is told: of 1,400 responses of hh-rlhf, all in English, none with more was misjudged.
MIN_LETTERS = 20
#: Share of probability that the likeliest of 140 languages must have.
MIN_CONFIDENCE = 0.5
#: ISO 639 for what is no language: code, tables.
NO_LANGUAGE = "zxx"
#: Characters that are looked at.
MAX_CHARACTERS = 600


@cache
def _identifier() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=8)
def language_of(text: str) -> str | None:
    """The ISO 639 code of the language a text is in; None where it is too short, or no language is likely enough.

    Needs the library py3langid, which brings its model with it.

    >>> language_of("How do I tie a bow with two ends of the same length?")
    'en'
    >>> language_of("Ok, thanks!")
    """
    text = text[:MAX_CHARACTERS]
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return None
    language, confidence = _identifier().classify(text)
    return language if confidence >= MIN_CONFIDENCE and language != NO_LANGUAGE else None


def languages(pair: PreferencePair) -> tuple[str | None, str | None, str | None]:
    """The languages of the question, of chosen and of rejected."""
    _, chosen, rejected = pair.texts
    return language_of(question(pair)), language_of(chosen), language_of(rejected)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which response is in another language than the last turn of the user's.

    >>> from dpo_data.records import TextPair
    >>> ask, answer = "How do I tie a bow with two ends?", "Croise les deux bouts, puis passe l'un sous l'autre."
    >>> pair = TextPair(prompt=f"{ask} Tell me slowly, please.", chosen="Cross the ends.", rejected=answer)
    >>> find(pair, pair.texts).message
    'rejected is in fr, the prompt in en.'
    """
    asked, *answered = languages(pair)
    for field, language in zip(("chosen", "rejected"), answered, strict=True):
        if asked and language and language != asked:
            return Finding(field, f"{field} is in {language}, the prompt in {asked}.")
    return None


LANGUAGE_MISMATCH = RowCheck(
    code="language_mismatch",
    severity="warning",
    summary="a response is in another language than its prompt",
    hint="Right for translations; elsewhere the model would learn to change the language.",
    find=find,
)
