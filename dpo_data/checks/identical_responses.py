"""Two responses that are the same text."""

from unicodedata import normalize

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import VISIBLE, Suspects, TextColumns
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Bytes of each response that are compared first.
COMPARED_BYTES = 48


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


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows whose responses do not differ in a visible ASCII character near their start.

    Where the first difference is between two such characters, no normalization makes them equal; where it is between
    one and white space, only if there is white space before.
    """
    chosen, rejected = (response.first_bytes(COMPARED_BYTES) for response in columns.responses)
    rows, first = np.arange(len(columns)), np.argmax(chosen != rejected, 1)
    one, other, before = chosen[rows, first], rejected[rows, first], chosen[rows, np.maximum(first - 1, 0)]
    is_after_ascii = (np.maximum.accumulate(chosen, 1)[rows, first] < 0x80) & (other < 0x80)
    both_visible = VISIBLE[one] & VISIBLE[other]
    one_visible = (VISIBLE[one] | VISIBLE[other]) & (first > 0) & VISIBLE[before]
    differ: Suspects = (one != other) & is_after_ascii & (both_visible | one_visible)
    return ~differ


CHECK = RowCheck(
    code="identical_responses",
    severity="error",
    summary="chosen and rejected are the same text",
    hint="Identical responses give a loss of ln 2 and no gradient: remove the row.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Tea or coffee?", chosen="A caf\u00e9  latte.", rejected="A cafe\u0301 latte.\n"),
)
