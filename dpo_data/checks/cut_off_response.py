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
OPEN_ENDS = (",", "(", "[", "{", "\u201e", "\u00ab", "\uff0c", "\u3001", "\uff08", "\u300c", " \u201c", " -", " \u2013", " \u2014")
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
INNER_WORDS = {
    "en": frozenset(
        "a an the and or but nor if because although though unless whereas than whose of into from upon among between toward"
        " during without within via per i we they he she it's i'm you're we're they're he's she's that's there's i'd you'd i'll you'll"
        " it'll we'll they'll i've you've we've they've who's is are was were be am been being has had my your his its our their"
        " every very really quite such as by for with at to which who where how while about in on".split()
    )
    - frozenset("though is are was were about in on to for with has had been be by at where how am his".split()),
    "de": frozenset(
        "der die das den dem des ein eine einen einem einer eines und oder aber weil dass obwohl wenn ob damit sodass denn als"
        " von vom zur zum bei beim im ins am aus durch für gegen ohne um zwischen mit mein dein sein ihr unser euer ihre"
        " meine deine seine unsere sehr ganz etwa".split()
    )
    - frozenset("das mit um aus durch ihr sein ganz am sehr".split()),
    "fr": frozenset(
        "le la les un une des du de au aux et ou mais parce que car si lorsque quand puisque afin dans sur sous avec sans pour"
        " par entre vers chez mon ton son ma ta sa mes tes ses notre votre leur leurs je tu il nous vous ils qui dont très ne".split()
    )
    - frozenset("vous nous leur avec sans sur si".split()),
    "es": frozenset(
        "el la los las un una unos unas y e o pero porque aunque sino que como cuando si mientras de del a al en con sin por para"
        " entre hacia desde hasta sobre mi tu su mis tus sus nuestro nuestra cuyo cuya lo muy".split()
    )
    - frozenset("si como sobre".split()),
    "pt": frozenset(
        "o a os as um uma uns umas e ou mas porque embora que quando se enquanto de do da dos das em no na nos nas com sem por"
        " pelo pela para entre até desde meu minha seu sua muito".split()
    )
    - frozenset("a as os se muito".split()),
    "it": frozenset(
        "il lo la i gli le un uno una e o ma perché anche che quando se mentre di del della dei delle a al alla da dal dalla in"
        " nel nella con su sul sulla per tra fra mio tuo suo mia tua sua molto".split()
    )
    - frozenset("la le lo se su mio tuo suo mia tua sua molto anche".split()),
    "nl": frozenset("de het een en of maar omdat hoewel dat als van in met voor door tegen zonder tussen naar mijn jouw onze hun zeer".split())
    - frozenset("in met voor door dat het".split()),
    "ru": frozenset(
        "и а но или что чтобы если когда хотя потому поэтому как в во на с со к ко по из за от до у о об для без между через"
        " перед при над под который которая которые которого очень мой твой ваш наш их".split()
    )
    - frozenset("за их".split()),
}  # fmt: skip

#: A clause that has just begun, at the end of a text.
BEGUN_CLAUSE = re.compile(
    r"\b(?:(?:if|when|because|so that|which is why|and then|but if) (?:you|he|she|they|we|i|it|the)"
    r"|(?:weil|wenn|dass|ob|bevor|damit|obwohl|weshalb|falls|sodass) (?:ich|du|er|sie|es|wir|ihr|man|das)|und dann"
    r"|(?:que|si|quand|lorsque|parce que) (?:tu|vous|nous|elle|elles)|et puis|(?:y|e) (?:luego|depois|poi)|и (?:затем|потом))\Z",
    re.IGNORECASE,
)
#: Languages whose dictionaries have the inflected forms, without which the beginning of a word cannot be recognized.
DICTIONARIES = frozenset(("en", "de", "fr", "it", "nl", "pt"))


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response consists of sentences but surely does not end with the end of one.

    It ends with a comma, an opening bracket or an open code block, with a word that ends no sentence, in the middle of a
    word, or in a script without spaces without punctuation. A sentence that only lacks its period passes, and so do
    lists, titles, addresses, links and short answers. Needs py3langid and pyspellchecker.

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
    if not response or response[-1] in ENDS:
        return []
    start = response.rfind("\n") + 1
    last_line = response[max(start, len(response) - MAX_LAST_LINE) :]
    if UNSPACED_ENDING.search(response):
        # Verses and items have no punctuation within the line either.
        in_line = UNSPACED_SENTENCE_END.search(response, start) is not None
        return [last_line[-12:]] if in_line and len(UNSPACED_SENTENCE_END.findall(response)) >= 2 else []
    if response[-1] in "\u201c\u300c" and len(UNSPACED_SENTENCE_END.findall(response)) >= 2:
        return [last_line[-12:]]
    if len(response) < MIN_RESPONSE:
        return []
    words = last_line.split()
    if response.endswith(OPEN_ENDS):
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
