"""How often labels are wrong, as far as pairs that were judged more than once tell."""

from collections.abc import Iterable
from math import sqrt

import numpy as np

from dpo_data.checks.check import RowKeys
from dpo_data.inspect.statistics.distribution import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import LabelNoise
from dpo_data.inspect.statistics.rules import wilson_interval


def estimate_label_noise(buckets: Iterable[RowKeys]) -> LabelNoise | None:
    """The share of wrong labels, or None where no two responses were judged twice.

    Every repeated pair counts once: of the couples among n judgements, a one way round and b the other, a share of
    a b / (n (n - 1) / 2) disagrees, and d is the mean of that.

    Args:
        buckets: the keys of all rows; rows with one prompt stand in one bucket.
    """
    repeated = judgements = disputed = 0
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
        judgements += int(n.sum())
        disputed += int((a < n).sum())
        disagreements += float((2 * a * (n - a) / (n * (n - 1))).sum())
        rows = first[again][a < n]
        examples += [keys["pair"][row].tobytes().hex() for row in rows[: MAX_EXAMPLES - len(examples)]]
    if not repeated:
        return None
    d = disagreements / repeated
    # As if d had been seen on that many independent couples of judgements.
    low, high = wilson_interval(round(disagreements), repeated)
    error = error_rate(d)
    return LabelNoise(
        repeated=repeated,
        judgements=judgements,
        disputed=disputed,
        disagreement=d,
        error=error,
        error_low=min(error, error_rate(low)),
        error_high=max(error, error_rate(high)),
        label_smoothing=round(error, 3) if error < 0.5 else None,
        examples=examples,
    )


def error_rate(disagreement: float) -> float:
    """The e of d = 2 e (1 - e); 0.5, where labels are coin flips, for any d above.

    >>> round(error_rate(0.18), 6)
    0.1
    """
    return (1 - sqrt(1 - 2 * disagreement)) / 2 if disagreement < 0.5 else 0.5
