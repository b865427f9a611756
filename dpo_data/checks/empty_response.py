"""A response without a word in it."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which of the responses is empty or white space.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen=" \n", rejected="Hello")
    >>> find(pair, pair.texts)
    Finding(field='chosen', message='chosen is empty.')
    """
    _, chosen, rejected = texts
    if not chosen or chosen.isspace():
        return Finding("chosen", "chosen is empty.")
    if not rejected or rejected.isspace():
        return Finding("rejected", "rejected is empty.")
    return None


EMPTY_RESPONSE = RowCheck(
    code="empty_response",
    severity="error",
    summary="a response is empty or white space",
    hint="An empty response has no token to learn from: leave the row out, or repair it in the raw file.",
    find=find,
)
