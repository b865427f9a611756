"""Two responses that are the same text."""

from unicodedata import normalize

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import WORD, Suspects, TextColumns
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Bytes of each response that are compared first.
COMPARED_BYTES = 16


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
    """Return the rows whose responses do not differ in a letter or digit of their first ASCII characters."""
    chosen, rejected = (response.first_bytes(COMPARED_BYTES) for response in columns.responses)
    # A column at the end in which all rows seem to differ: where no other one does.
    first = np.argmax(np.pad(chosen != rejected, ((0, 0), (0, 1)), constant_values=True), 1)
    shared_ascii = np.argmax(np.pad(chosen >= 0x80, ((0, 0), (0, 1)), constant_values=True), 1)
    rows, position = np.arange(len(columns)), np.minimum(first, COMPARED_BYTES - 1)
    are_words = WORD[chosen[rows, position]] & WORD[rejected[rows, position]]
    return ~((first < shared_ascii) & are_words)


CHECK = RowCheck(
    code="identical_responses",
    severity="error",
    summary="chosen and rejected are the same text",
    hint="Identical responses give a loss of ln 2 and no gradient: remove the row.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Tea or coffee?", chosen="A caf\u00e9  latte.", rejected="A cafe\u0301 latte.\n"),
)
