"""A response that goes on to speak for somebody."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair

MARKERS = ("Human:", "Assistant:", "User:", "System:")
AT_LINE_START = re.compile(rf"^[ \t]*({'|'.join(MARKERS)})", re.MULTILINE)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which response has a line that starts with a role's name and a colon.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="Hello", rejected="Hello\nHuman: more")
    >>> find(pair, pair.texts).message
    'rejected has a line that starts with "Human:".'
    >>> pair = TextPair(prompt="Hi", chosen="Hello", rejected="A robot said to a Human: hello")
    >>> find(pair, pair.texts)
    """
    _, chosen, rejected = texts
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        # Substring search first: a tenth of the price of the expression, and nearly always enough.
        if ":" in response and any(map(response.__contains__, MARKERS)) and (match := AT_LINE_START.search(response)):
            return Finding(field, f'{field} has a line that starts with "{match[1]}".')
    return None


ROLE_MARKER_IN_RESPONSE = RowCheck(
    code="role_marker_in_response",
    severity="warning",
    summary="a line of a response starts with a role marker",
    hint="The response may run on into the next turn, and the model would learn to do so: look at the row.",
    find=find,
)
