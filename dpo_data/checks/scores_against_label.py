"""Scores that say that rejected is the better response."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Whether rejected has the higher score, or the margin is negative; pairs without scores are left alone.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="Hello", rejected="No", chosen_score=1, rejected_score=4)
    >>> find(pair, pair.texts).message
    'chosen has the score 1, rejected the higher one 4.'
    """
    chosen, margin = pair.chosen_score, pair.margin
    if chosen is not None and (rejected := pair.rejected_score) is not None and chosen < rejected:
        return Finding("chosen_score", f"chosen has the score {chosen:g}, rejected the higher one {rejected:g}.")
    if margin is not None and margin < 0:
        return Finding("margin", f"the margin is {margin:g}: rejected is the better one.")
    return None


SCORES_AGAINST_LABEL = RowCheck(
    code="scores_against_label",
    severity="warning",
    summary="the scores say that rejected is better",
    hint="Find out which of the two is right: perhaps the columns are swapped, or lower scores are better.",
    find=find,
)
