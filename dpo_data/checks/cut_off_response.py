"""A response that ends in the middle of a sentence."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Last characters of a complete text: sentence punctuation, what may follow it, and the end of code or emphasis.
ENDS = frozenset(".!?\u2026\"'\u201d\u2019\u00bb)]}>`*_~:;|\u3002\uff01\uff1f\uff09\u300d\u0964\u061f\u06d4")
#: Characters; a shorter text may be a title, a name or a number.
MIN_RESPONSE = 60
#: Words of the last line; a shorter line may be a list item, a signature or an address.
MIN_LAST_LINE = 6
#: Characters of the last line that are checked.
MAX_LAST_LINE = 120
#: Words after the last end of a sentence; fewer may be a signature.
MIN_FRAGMENT = 3
LIST_ITEM = re.compile(r"\s*(?:[-*\u2022#>|]|\(?\w{1,3}[.):])\s")
SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)]?\s")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response consists of sentences but does not end with the end of one.

    Lists, titles, addresses, links, short answers and texts without sentences pass, and so do scripts without spaces
    between words.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected ends in the middle of a sentence: "... and hold on to the".'
    """
    _, chosen, rejected = texts
    # Most pairs pass here.
    if chosen[-1:] in ENDS and rejected[-1:] in ENDS:
        return None
    for field, response in responses(texts):
        if words := _unfinished_line(response):
            return Finding(field, f'{field} ends in the middle of a sentence: "... {" ".join(words[-5:])}".')
    return None


def _unfinished_line(response: str) -> list[str]:
    """Return the words of the last line if it ends in the middle of a sentence, and no words otherwise."""
    response = response.rstrip()
    if not response or response[-1] in ENDS or len(response) < MIN_RESPONSE:
        return []
    start = response.rfind("\n") + 1
    last_line = response[max(start, len(response) - MAX_LAST_LINE) :]
    words = last_line.split()
    last = words[-1]
    if last.endswith((",", "(", "[")):
        return words
    letters = last.replace("'", "").replace("\u2019", "").replace("-", "")
    if len(words) < MIN_LAST_LINE or not letters.isalpha() or (last.isupper() and len(last) > 1):
        return []
    if LIST_ITEM.match(response, start) or not SENTENCE_END.search(response):
        return []
    return [] if SENTENCE_END.search(" ".join(words[-MIN_FRAGMENT:])) else words


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
