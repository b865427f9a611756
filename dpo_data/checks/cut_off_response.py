"""A response that ends in the middle of a sentence."""

import re
from bisect import bisect_left
from functools import cache

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.language_mismatch import language_of
from dpo_data.checks.text import UNSPACED, responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Last characters of a complete text: sentence punctuation, what may follow it, and the end of code or emphasis.
ENDS = frozenset(".!?\u2026\"'\u201d\u2019\u00bb)]}>`*_~;|\u3002\uff01\uff1f\uff09\u300d\u300f\u0964\u061f\u06d4")
#: Last characters after which something must follow.
OPEN_ENDS = (
    ",",
    "(",
    "[",
    "{",
    "\u201e",
    "\u00ab",
    "\uff0c",
    "\u3001",
    "\uff08",
    "\u300c",
    " \u201c",
    " -",
    " \u2013",
    " \u2014",
)
#: Characters; a shorter text may be a title, a name or a number.
MIN_RESPONSE = 60
#: Words of the last line; a shorter line may be a list item, a signature or an address.
MIN_LAST_LINE = 6
#: Characters of the last line that are checked.
MAX_LAST_LINE = 120
#: Words after the last end of a sentence; fewer may be a signature.
MIN_FRAGMENT = 3
#: Letters of a word that may be the beginning of another one.
MIN_WORD_START = 2
LIST_ITEM = re.compile(r"\s*(?:[-*\u2022#>|]|\(?\w{1,3}[.):])\s")
SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)]?\s")
UNSPACED_ENDING = re.compile(rf"[{UNSPACED}]\Z")
UNSPACED_SENTENCE_END = re.compile("[\u3002\uff01\uff1f][\u300d\u300f\u201d\uff09]?")
#: Words that end no sentence: articles, prepositions, conjunctions, and pronouns and auxiliaries before a verb.
_INNER_WORDS = {
    "en": (
        "a although among an and as because being between but during every from he he's i i'd i'll i'm i've if "
        "into it'll it's its my nor of on or our per quite really she she's such than that's the their there's "
        "they they'll they're they've to toward unless upon very via we we'll we're we've whereas which while who "
        "who's whose within without you'd you'll you're you've your"
    ),
    "de": (
        "aber als bei beim damit dass dein deine dem den denn der des die ein eine einem einen einer eines etwa "
        "euer für gegen ihre im ins mein meine ob obwohl oder ohne seine sodass und unser unsere vom von weil wenn "
        "zum zur zwischen"
    ),
    "fr": (
        "afin au aux car chez dans de des dont du entre et il ils je la le les leurs lorsque ma mais mes mon ne "
        "notre ou par parce pour puisque quand que qui sa ses son sous ta tes ton très tu un une vers votre"
    ),
    "es": (
        "a al aunque con cuando cuya cuyo de del desde e el en entre hacia hasta la las lo los mi mientras mis muy "
        "nuestra nuestro o para pero por porque que sin sino su sus tu tus un una unas unos y"
    ),
    "pt": (
        "até com da das de desde do dos e em embora enquanto entre mas meu minha na nas no nos o ou para pela pelo "
        "por porque quando que sem seu sua um uma umas uns"
    ),
    "it": (
        "a al alla che con da dal dalla dei del della delle di e fra gli i il in ma mentre nel nella o per perché "
        "quando sul sulla tra un una uno"
    ),
    "nl": ("als de een en hoewel hun jouw maar mijn naar of omdat onze tegen tussen van zeer zonder"),
    "ru": (
        "а без в ваш во для до если и из или к как ко когда которая которого которые который между мой на над наш "
        "но о об от очень перед по под потому поэтому при с со твой у хотя через что чтобы"
    ),
}
INNER_WORDS = {language: frozenset(words.split()) for language, words in _INNER_WORDS.items()}
#: A clause that has just begun, at the end of a text.
BEGUN_CLAUSE = re.compile(
    r"\b(?:(?:if|when|because|so that|which is why|and then|but if) (?:you|he|she|they|we|i|it)|and then"
    r"|(?:weil|wenn|dass|ob|bevor|damit|obwohl|weshalb|falls|sodass) (?:ich|du|er|sie|es|wir|ihr|man|das)|und dann"
    r"|(?:que|si|quand|lorsque|parce que) (?:tu|vous|nous|elle|elles)|et puis"
    r"|(?:y|e) (?:luego|depois|poi)|и (?:затем|потом))\Z",
    re.IGNORECASE,
)
#: Languages whose dictionaries have the inflected forms, without which the beginning of a word cannot be recognized.
DICTIONARIES = frozenset(("en", "de", "fr", "it", "nl", "pt"))


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response consists of sentences but surely does not end with the end of one.

    It ends with a comma, an opening bracket or an open code block, with a word that ends no sentence, in the middle of
    a word, or, in a script without spaces, without punctuation. A sentence that only lacks its period passes, and so
    do lists, titles, addresses, links and short answers. Needs py3langid and pyspellchecker.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected ends in the middle of a sentence: "... and hold on to the".'
    """
    _, chosen, rejected = texts
    # Most pairs pass here.
    if chosen[-1:] in ENDS and rejected[-1:] in ENDS and "```" not in chosen and "```" not in rejected:
        return None
    for field, response in responses(texts):
        if _is_open_code(response):
            return Finding(field, f"{field} ends in an open code block.")
        if words := _unfinished_line(response):
            return Finding(field, f'{field} ends in the middle of a sentence: "... {" ".join(words[-5:])}".')
    return None


def _is_open_code(response: str) -> bool:
    fences = [line for line in response.splitlines() if line.lstrip().startswith("```")] if "```" in response else []
    return len(fences) % 2 == 1 and response.rstrip()[-3:] != "```"


def _unfinished_line(response: str) -> list[str]:
    """Return the words of the last line if it ends in the middle of a sentence, and no words otherwise."""
    response = response.rstrip()
    # In German the mark that opens quotations elsewhere closes them.
    opens_quote = response.endswith("\u201c") and "\u201e" not in response
    if not response or response[-1] in ENDS:
        return []
    start = response.rfind("\n") + 1
    last_line = response[max(start, len(response) - MAX_LAST_LINE) :]
    if UNSPACED_ENDING.search(response):
        # Verses and items have no punctuation within the line either.
        in_line = UNSPACED_SENTENCE_END.search(response, start) is not None
        return [last_line[-12:]] if in_line and len(UNSPACED_SENTENCE_END.findall(response)) >= 3 else []
    if len(response) < MIN_RESPONSE:
        return []
    words = last_line.split()
    if response.endswith(OPEN_ENDS) or (opens_quote and SENTENCE_END.search(response)):
        return words
    last = words[-1].replace("\u2019", "'").lstrip("\"'\u201c\u201e\u00ab(")
    letters = last.replace("'", "").replace("-", "")
    if not letters.isalpha() or (last.isupper() and len(last) > 1):
        return []
    is_item = LIST_ITEM.match(response, start) is not None
    if (len(words) < MIN_LAST_LINE and not is_item) or not (SENTENCE_END.search(response)):
        return []
    if SENTENCE_END.search(" ".join(words[-MIN_FRAGMENT:])):
        return []
    language = language_of(response)
    if language not in INNER_WORDS:
        return []
    return words if BEGUN_CLAUSE.search(last_line) or _ends_no_sentence(last, language) else []


def _ends_no_sentence(word: str, language: str) -> bool:
    """Return True if a word ends no sentence of a language, or is the beginning of a word only."""
    lower = word.lower()
    if lower in INNER_WORDS[language] or (len(word) == 1 and word == lower):
        return True
    # A name in upper case may be missing in the dictionary.
    if "'" in word or (word != lower and language != "de") or len(lower) < MIN_WORD_START:
        return False
    if language not in DICTIONARIES:
        return False
    known = _dictionary(language)
    place = bisect_left(known, lower)
    return place < len(known) and known[place] != lower and known[place].startswith(lower)


@cache
def _dictionary(language: str) -> list[str]:
    """Return the sorted words of a language."""
    from spellchecker import SpellChecker

    return sorted(SpellChecker(language=language).word_frequency.words())


CHECK = RowCheck(
    code="cut_off_response",
    severity="warning",
    summary="a response ends in the middle of a sentence",
    hint="Usually a generation that reached its length limit; the model would learn to stop there. Check the row.",
    find=find,
    example=TextPair(
        prompt="How do I tie a bow?",
        chosen="Cross the ends.",
        rejected="Cross the two ends first. Then pull the left one under the right one, and hold on to the",
    ),
)
