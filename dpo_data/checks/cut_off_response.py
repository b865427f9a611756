"""A response that stops in the middle of a sentence."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair

#: What a whole text may end with: punctuation of sentences, what may stand behind it, the end of code and of emphasis.
ENDS = frozenset(".!?\u2026\"'\u201d\u2019\u00bb)]}>`*_~:;|\u3002\uff01\uff1f\uff09\u300d\u0964\u061f\u06d4")
#: Characters; a shorter text may be a title, a name or a number, and ends as it likes.
MIN_RESPONSE = 60
#: Words of the last line; a shorter one may be an item, a signature or an address.
MIN_LAST_LINE = 6
#: Characters of the last line that are looked at.
MAX_LAST_LINE = 120
#: Words behind the last end of a sentence; fewer may be who signs.
MIN_FRAGMENT = 3
LIST_ITEM = re.compile(r"\s*(?:[-*\u2022#>|]|\(?\w{1,3}[.):])\s")
SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)]?\s")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which response ends without the end of a sentence, though it has sentences.

    Lists, titles, addresses, links, short answers and texts without any sentence end are left alone. Scripts that are
    written without spaces have no words here, and are left alone too.

    >>> from dpo_data.records import TextPair
    >>> cut = "Cross the two ends first. Then pull the left one under the right one, and hold on to the"
    >>> pair = TextPair(prompt="How do I tie a bow?", chosen="Cross the ends.", rejected=cut)
    >>> find(pair, pair.texts).message
    'rejected does not end its last sentence: "... and hold on to the".'
    """
    _, chosen, rejected = texts
    # Most pairs are done with here.
    if chosen[-1:] in ENDS and rejected[-1:] in ENDS:
        return None
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        if words := _unfinished(response):
            return Finding(field, f'{field} does not end its last sentence: "... {" ".join(words[-5:])}".')
    return None


def _unfinished(response: str) -> list[str]:
    """The words of a last line that a sentence breaks off in; none where nothing says so."""
    response = response.rstrip()
    if not response or response[-1] in ENDS or len(response) < MIN_RESPONSE:
        return []
    start = response.rfind("\n") + 1
    last_line = response[max(start, len(response) - MAX_LAST_LINE) :]
    words = last_line.split()
    last = words[-1]
    if last.endswith((",", "(", "[")):
        return words
    plain = last.replace("'", "").replace("\u2019", "").replace("-", "")
    if len(words) < MIN_LAST_LINE or not plain.isalpha() or (last.isupper() and len(last) > 1):
        return []
    if LIST_ITEM.match(response, start) or not SENTENCE_END.search(response):
        return []
    return [] if SENTENCE_END.search(" ".join(words[-MIN_FRAGMENT:])) else words


CUT_OFF_RESPONSE = RowCheck(
    code="cut_off_response",
    severity="warning",
    summary="a response that does not end its last sentence",
    hint="Often a generation that hit its length limit: the model would learn to stop there. Look at the row.",
    find=find,
)
