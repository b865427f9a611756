"""A response in another language than its prompt."""

from functools import cache, lru_cache
from typing import Any

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import last_user_turn
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Letters that a text must have to be classified: of 1,400 English responses of hh-rlhf, none with more was misjudged.
MIN_LETTERS = 20
#: Probability that the most likely of 140 languages must have.
MIN_CONFIDENCE = 0.5
#: ISO 639 code for content without language, such as code and tables.
NO_LANGUAGE = "zxx"
#: Characters that are classified.
MAX_CHARACTERS = 600


@cache
def _identifier() -> Any:
    from py3langid import langid

    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=8)
def language_of(text: str) -> str | None:
    """Return the ISO 639 code of the language of a text, or None if it is too short or no language is likely enough.

    Needs py3langid, which includes its model.

    >>> language_of("How do I tie a bow with two ends of the same length?")
    'en'
    >>> language_of("Ok, thanks!")
    """
    text = text[:MAX_CHARACTERS]
    if sum(map(str.isalpha, text)) < MIN_LETTERS:
        return None
    language, confidence = _identifier().classify(text)
    return language if confidence >= MIN_CONFIDENCE and language != NO_LANGUAGE else None


def languages(pair: PreferencePair, texts: PairTexts) -> tuple[str | None, str | None, str | None]:
    """Return the languages of the last user turn, of chosen and of rejected."""
    _, chosen, rejected = texts
    return language_of(last_user_turn(pair)), language_of(chosen), language_of(rejected)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response is in another language than the last user turn.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected is in fr, the prompt in en.'
    """
    prompt_language, *response_languages = languages(pair, texts)
    for field, language in zip(("chosen", "rejected"), response_languages, strict=True):
        if prompt_language and language and language != prompt_language:
            return Finding(field, f"{field} is in {language}, the prompt in {prompt_language}.")
    return None


CHECK = RowCheck(
    code="language_mismatch",
    severity="warning",
    summary="a response is in another language than its prompt",
    hint="Expected for translations; otherwise the model would learn to switch languages.",
    find=find,
    example=TextPair(
        prompt="How do I tie a bow with two ends? Tell me slowly, please.",
        chosen="Cross the ends.",
        rejected="Croise les deux bouts, puis passe l'un sous l'autre.",
    ),
)
