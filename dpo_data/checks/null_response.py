"""A response that is a missing value spelled out."""

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import SPACE, VISIBLE, Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: What programs write for a missing value, in lower case.
NULLS = {"none", "nan", "null", "nil", "undefined", "n/a", "#n/a", "<na>", "<null>", "(null)"}
#: The first letter of each, in both cases.
FIRST_BYTES = np.array([ord(letter) for word in NULLS for letter in {word[0], word[0].upper()}])
#: Characters of a response that may be one of them, with white space around it.
MAX_CHARS = 20


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response is nothing but a word for a missing value.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen is "nan".'
    """
    if len(texts[1]) > MAX_CHARS and len(texts[2]) > MAX_CHARS:
        return None
    for field, response in responses(texts):
        if response.strip().lower() in NULLS:
            return Finding(field, f'{field} is "{response.strip()}".')
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a response that may start, after a space, like one of `NULLS`."""
    found = columns.prompt.none()
    for response in columns.responses:
        first = response.first_bytes(2)
        start = np.where(first[:, 0] == SPACE, first[:, 1], first[:, 0])
        found |= ~VISIBLE[start] | np.isin(start, FIRST_BYTES)
    return found


CHECK = RowCheck(
    code="null_response",
    severity="warning",
    summary="a response is nothing but None, nan, null or another word for a missing value",
    hint="A missing value may have become text, as in a CSV file: remove such rows with --forbid null_response, unless "
    "the word is an answer.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who are you?", chosen="nan", rejected="Go away."),
)
