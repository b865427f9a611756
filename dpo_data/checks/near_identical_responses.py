"""Two responses that are nearly the same text."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Similarity from which two responses are nearly the same: 1 - insertions and deletions / characters of both.
MIN_SIMILARITY = 0.95


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if at most 5% of the characters of both responses differ; needs rapidfuzz.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen and rejected are 96% identical.'
    """
    from rapidfuzz import fuzz

    _, chosen, rejected = texts
    similarity = fuzz.ratio(chosen, rejected, score_cutoff=100 * MIN_SIMILARITY) / 100
    if similarity and chosen != rejected:
        return Finding("rejected", f"chosen and rejected are {int(100 * similarity)}% identical.")
    return None


CHECK = RowCheck(
    code="near_identical_responses",
    severity="warning",
    summary="chosen and rejected differ in a few characters",
    hint="Such a pair teaches only that difference: check that it is intended and not a typo.",
    find=find,
    example=TextPair(
        prompt="How do I tie a bow?",
        chosen="Cross the two ends, pull the left one through the loop, and draw it tight.",
        rejected="Cross the two ends, pull the left one through the loop, and draw it taut.",
    ),
)
