"""Two responses that are the same text."""

from unicodedata import normalize

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Whether the responses are equal once white space and Unicode composition (NFC) are made alike.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="caf\u00e9  please", rejected="cafe\u0301 please\n")
    >>> find(pair, pair.texts).message
    'chosen and rejected differ only in white space or Unicode composition.'
    """
    _, chosen, rejected = texts
    if chosen == rejected:
        return Finding("rejected", "chosen and rejected are the same text.")
    # Most pairs differ in their first letter, which costs a tenth of comparing them word by word.
    first, other = chosen[:8].lstrip()[:1], rejected[:8].lstrip()[:1]
    if first and other and first != other and first.isascii() and other.isascii():
        return None
    if normalize("NFC", chosen).split() == normalize("NFC", rejected).split():
        return Finding("rejected", "chosen and rejected differ only in white space or Unicode composition.")
    return None


IDENTICAL_RESPONSES = RowCheck(
    code="identical_responses",
    severity="error",
    summary="chosen and rejected are the same text",
    hint="Equal responses give a loss of ln 2 and no gradient: leave the row out.",
    find=find,
)
