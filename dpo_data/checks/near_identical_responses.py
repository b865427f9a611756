"""Two responses that hardly differ."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair

#: Similarity from which two responses are nearly the same: 1 - insertions and deletions / characters of both.
MIN_SIMILARITY = 0.95


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Whether less than 5% of the characters of both responses differ; needs the library rapidfuzz.

    >>> from dpo_data.records import TextPair
    >>> one = "Cross the two ends, pull the left one through the loop, and draw it tight."
    >>> pair = TextPair(prompt="How do I tie a bow?", chosen=one, rejected=one.replace("tight", "taut"))
    >>> find(pair, pair.texts).message
    'chosen and rejected are 96% the same.'
    """
    from rapidfuzz import fuzz

    _, chosen, rejected = texts
    similarity = fuzz.ratio(chosen, rejected, score_cutoff=100 * MIN_SIMILARITY) / 100
    if similarity and chosen != rejected:
        return Finding("rejected", f"chosen and rejected are {int(100 * similarity)}% the same.")
    return None


NEAR_IDENTICAL_RESPONSES = RowCheck(
    code="near_identical_responses",
    severity="warning",
    summary="chosen and rejected differ in a few characters",
    hint="All that such a pair teaches is that difference: see that it is meant, and no typing error.",
    find=find,
)
