"""A response with a line that starts like the turn of another speaker."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

MARKERS = ("Human:", "Assistant:", "User:", "System:")
AT_LINE_START = re.compile(rf"^[ \t]*({'|'.join(MARKERS)})", re.MULTILINE)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a line of a response starts with the name of a role and a colon.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected has a line that starts with "Human:".'
    >>> pair = TextPair(prompt="Hi", chosen="Hello", rejected="A robot said to a Human: hello")
    >>> find(pair, pair.texts)
    """
    for field, response in responses(texts):
        # Substring search first: it is nearly always enough, at a tenth of the cost of the regular expression.
        if ":" in response and any(map(response.__contains__, MARKERS)) and (match := AT_LINE_START.search(response)):
            return Finding(field, f'{field} has a line that starts with "{match[1]}".')
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a marker in a response, wherever it is."""
    return columns.chosen.contains(*MARKERS) | columns.rejected.contains(*MARKERS)


CHECK = RowCheck(
    code="role_marker_in_response",
    severity="warning",
    summary="a line of a response starts with a role marker",
    hint="The response may run on into the next turn, which the model would learn to do: check the row.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who are you?", chosen="A robot.", rejected="A robot.\nHuman: And who made you?"),
)
