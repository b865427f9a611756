"""An estimate of how many labels are wrong, from pairs that were judged more than once."""

from collections.abc import Iterable
from math import sqrt

import numpy as np

from dpo_data.checks.check import RowKeys
from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import LabelNoise
from dpo_data.inspect.statistics.rules import wilson_interval


def estimate_label_noise(buckets: Iterable[RowKeys]) -> LabelNoise | None:
    """Return the estimated share of wrong labels; None if no two responses were judged twice.

    Every repeated pair counts once: of the ways to draw two of its n judgments, a in one direction and b in the other,
    a share of a b / (n (n - 1) / 2) disagrees; d is the mean of these shares.

    Args:
        buckets: the keys of all rows; rows with the same prompt are in the same bucket.
    """
    repeated = judgments = disputed = 0
    disagreements = 0.0
    examples: list[str] = []
    for keys in buckets:
        _, first, group, counts = np.unique(
            keys["unordered"], return_index=True, return_inverse=True, return_counts=True
        )
        same_way = np.bincount(group, weights=keys["pair"] == keys["pair"][first[group]], minlength=len(first))
        again = counts > 1
        n, a = counts[again], same_way[again]
        repeated += len(n)
        judgments += int(n.sum())
        disputed += int((a < n).sum())
        disagreements += float((2 * a * (n - a) / (n * (n - 1))).sum())
        rows = first[again][a < n]
        examples += [keys["pair"][row].tobytes().hex() for row in rows[: MAX_EXAMPLES - len(examples)]]
    if not repeated:
        return None
    d = disagreements / repeated
    # As if d had been seen on that many independent pairs of judgments.
    low, high = wilson_interval(round(disagreements), repeated)
    error = error_rate(d)
    return LabelNoise(
        repeated=repeated,
        judgements=judgments,
        disputed=disputed,
        disagreement=d,
        error=error,
        error_low=min(error, error_rate(low)),
        error_high=max(error, error_rate(high)),
        label_smoothing=round(error, 3) if error < 0.5 else None,
        examples=examples,
    )


def error_rate(disagreement: float) -> float:
    """Return the e of d = 2 e (1 - e); 0.5, the error of a coin flip, for any larger d.

    >>> round(error_rate(0.18), 6)
    0.1
    """
    return (1 - sqrt(1 - 2 * disagreement)) / 2 if disagreement < 0.5 else 0.5
