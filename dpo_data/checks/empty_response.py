"""An empty response."""

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import WORD, Suspects, TextColumns
from dpo_data.checks.text import is_blank, responses
from dpo_data.records import PairTexts, PreferencePair, TextPair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response is empty or only whitespace.

    >>> find(CHECK.example, CHECK.example.texts)
    Finding(field='chosen', message='chosen is empty.')
    """
    for field, response in responses(texts):
        if not response or response.isspace():
            return Finding(field, f"{field} is empty.")
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a response that does not start with a letter or digit, or does not after one character."""
    chosen, rejected = (WORD[response.first_bytes(2)].any(1) for response in columns.responses)
    return np.logical_not(chosen & rejected)


def find_invisible(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Return a finding if a response consists of whitespace and invisible characters.

    >>> pair = TextPair(prompt="Hi", chosen="\u2060", rejected="No")
    >>> find_invisible(pair, pair.texts).message
    'chosen has only invisible characters.'
    """
    for field, response in responses(texts):
        if is_blank(response):
            return Finding(field, f"{field} has only invisible characters.")
    return None


CHECK = RowCheck(
    code="empty_response",
    severity="error",
    summary="a response is empty or only whitespace",
    hint="An empty response has no tokens to learn from: remove the row, or fix it in the raw file.",
    find=find,
    suspects=suspects,
    find_deep=find_invisible,
    example=TextPair(prompt="Who are you?", chosen=" \n", rejected="Go away."),
)
