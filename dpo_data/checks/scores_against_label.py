"""Scores that contradict the label."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.records import PairTexts, PreferencePair, TextPair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if rejected has the higher score or the margin is negative; pairs without scores pass.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected has a higher score (4) than chosen (1).'
    """
    chosen, margin = pair.chosen_score, pair.margin
    if chosen is not None and (rejected := pair.rejected_score) is not None and chosen < rejected:
        return Finding("chosen_score", f"rejected has a higher score ({rejected:g}) than chosen ({chosen:g}).")
    if margin is not None and margin < 0:
        return Finding("margin", f"the margin is {margin:g}, so rejected is better.")
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return no rows: the columns have no scores."""
    return columns.prompt.none()


CHECK = RowCheck(
    code="scores_against_label",
    severity="warning",
    summary="the scores say that rejected is better",
    hint="Check which one is correct: the columns may be swapped, or lower scores may be better.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who are you?", chosen="A robot.", rejected="Go away.", chosen_score=1, rejected_score=4),
)
