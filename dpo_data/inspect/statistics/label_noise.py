"""An estimate of how many labels are wrong, from pairs that were judged more than once."""

from collections.abc import Iterable
from math import sqrt

import numpy as np

from dpo_data.checks.check import RowKeys, first_row_of_group
from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import LabelNoise
from dpo_data.inspect.statistics.rules import wilson_interval
from dpo_data.prepared.manifest import JudgmentCounts


def estimate_label_noise(counts: JudgmentCounts | None, buckets: Iterable[RowKeys]) -> LabelNoise | None:
    """Return the estimated share of wrong labels; None if no pair of responses has the judgments of two judges.

    Every repeated pair counts once; d is the mean of the shares of two of its judgments that disagree. Rows that repeat
    a pair without naming their judges may be copies, which say nothing about noise.

    Args:
        counts: of the judgments in the raw rows.
        buckets: the keys of all rows, for examples; rows with the same prompt are in the same bucket.
    """
    if counts is None or not counts.repeated:
        return None
    d = counts.disagreements / counts.repeated
    # As if d had been seen on that many independent pairs of judgments.
    low, high = wilson_interval(round(counts.disagreements), counts.repeated)
    error = error_rate(d)
    return LabelNoise(
        repeated=counts.repeated,
        judgements=counts.judgments,
        disputed=counts.disputed,
        disagreement=d,
        error=error,
        error_low=min(error, error_rate(low)),
        error_high=max(error, error_rate(high)),
        label_smoothing=round(error, 3) if error < 0.5 else None,
        examples=_disputed(buckets),
    )


def _disputed(buckets: Iterable[RowKeys]) -> list[str]:
    """Return the ids of the first pairs that are in the rows in both directions."""
    examples: list[str] = []
    for keys in buckets:
        first = first_row_of_group(keys, "unordered")
        rows = np.unique(first[keys["pair"] != keys["pair"][first]])
        examples += [keys["pair"][row].tobytes().hex() for row in rows[: MAX_EXAMPLES - len(examples)]]
    return examples


def error_rate(disagreement: float) -> float:
    """Return the e of d = 2 e (1 - e); 0.5, the error of a coin flip, for any larger d.

    >>> round(error_rate(0.18), 6)
    0.1
    """
    return (1 - sqrt(1 - 2 * disagreement)) / 2 if disagreement < 0.5 else 0.5
