"""Two responses that are the same text."""

from unicodedata import normalize

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair, TextPair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if the responses are equal, also up to whitespace and Unicode normalization (NFC).

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen and rejected differ only in whitespace or Unicode normalization.'
    """
    _, chosen, rejected = texts
    if chosen == rejected:
        return Finding("rejected", "chosen and rejected are the same text.")
    # Most pairs differ in their first letter; comparing that costs a tenth of comparing all words.
    first, other = chosen[:8].lstrip()[:1], rejected[:8].lstrip()[:1]
    if first and other and first != other and first.isascii() and other.isascii():
        return None
    if normalize("NFC", chosen).split() == normalize("NFC", rejected).split():
        return Finding("rejected", "chosen and rejected differ only in whitespace or Unicode normalization.")
    return None


CHECK = RowCheck(
    code="identical_responses",
    severity="error",
    summary="chosen and rejected are the same text",
    hint="Identical responses give a loss of ln 2 and no gradient: remove the row.",
    find=find,
    example=TextPair(prompt="Tea or coffee?", chosen="A caf\u00e9  latte.", rejected="A cafe\u0301 latte.\n"),
)
