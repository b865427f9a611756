"""Distributions of any number of values in little memory."""

import math
from collections import Counter
from collections.abc import Sequence
from heapq import heappush, heappushpop

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.inspect.statistics.models import Bin, Distribution

QUANTILES = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
#: Values closer to zero than this count as zero.
TINY = 1e-12
#: Approximate number of bins of a histogram.
BINS = 24
#: Different values that are counted exactly; beyond that all are rounded.
MAX_EXACT_VALUES = 10_000
MAX_PENDING_VALUES = 50_000


class ValueCounts:
    """Counts of values after rounding them to three significant digits: 900 counts per power of ten.

    Integers under 1,000 are exact; above that, quantiles are off by at most 0.5%.

    Args:
        exact: round only when there are more than `MAX_EXACT_VALUES` different values; for lengths, which
            rarely exceed it. Fractions need the rounding, which makes 0.1 + 0.2 and 0.3 one value.
    """

    def __init__(self, *, exact: bool = False) -> None:
        self.count = 0
        self.total = 0.0
        self.min = math.inf
        self.max = -math.inf
        self._exact = exact
        self._counts: Counter[float] = Counter()
        # Values that are not counted yet: sorting many at once is quicker than a few at a time.
        self._pending: list[NDArray[np.float64]] = []
        self._num_pending = 0

    def add(self, values: ArrayLike) -> None:
        """Count values, without those that are NaN."""
        array = np.asarray(values, np.float64)
        array = array[~np.isnan(array)]
        if not len(array):
            return
        self.count += len(array)
        self.total += float(array.sum())
        self.min, self.max = min(self.min, float(array.min())), max(self.max, float(array.max()))
        self._pending.append(array)
        self._num_pending += len(array)
        if self._num_pending >= MAX_PENDING_VALUES:
            self._count_pending()

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the smallest value that each share of the values does not exceed; there must be values."""
        values, counts = self._sorted()
        reached = np.cumsum(counts)
        ranks = np.searchsorted(reached, np.array(shares) * self.count - 1e-9)
        found = values[np.minimum(ranks, len(values) - 1)]
        return [float(value) for value in np.clip(found, self.min, self.max)]

    def distribution(self, edges: Sequence[float]) -> Distribution:
        """Return the published form, with a bin between neighboring edges and one at either end for values beyond."""
        values, counts = self._sorted()
        bins = np.searchsorted(np.array(edges), values, side="right")
        heights = np.bincount(bins, weights=counts, minlength=len(edges) + 1).astype(int).tolist()
        bounds = [None, *edges, None]
        every = [Bin(low=bounds[i], high=bounds[i + 1], count=height) for i, height in enumerate(heights)]
        shown = [bin_ for bin_ in every if bin_.count or (bin_.low is not None and bin_.high is not None)]
        quantiles = dict(zip(QUANTILES, self.quantiles(list(QUANTILES.values())), strict=True))
        mean = self.total / self.count
        return Distribution(count=self.count, mean=mean, min=self.min, max=self.max, bins=shown, **quantiles)

    def _count_pending(self) -> None:
        if not self._pending:
            return
        values, counts = np.unique(np.concatenate(self._pending), return_counts=True)
        self._pending, self._num_pending = [], 0
        self._count(values if self._exact else three_digits(values), counts)
        if self._exact and len(self._counts) > MAX_EXACT_VALUES:
            self._exact = False
            values, counts = self._sorted()
            self._counts.clear()
            self._count(three_digits(values), counts)

    def _count(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            self._counts[value] += count

    def _sorted(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        self._count_pending()
        values = np.array(sorted(self._counts))
        return values, np.array([self._counts[value] for value in values.tolist()])


class Largest:
    """Ids of the few pairs with the largest values, in order; of equal values the first."""

    def __init__(self, count: int = MAX_EXAMPLES) -> None:
        self._count = count
        self._heap: list[tuple[float, int, str]] = []
        self._seen = 0

    def add(self, values: ArrayLike, ids: Sequence[str]) -> None:
        """Look at more pairs, without those whose value is NaN."""
        array = np.asarray(values, np.float64)
        full = len(self._heap) == self._count
        for row in np.flatnonzero(array > self._heap[0][0] if full else ~np.isnan(array)).tolist():
            entry = (float(array[row]), -(self._seen + row), ids[row])
            if len(self._heap) < self._count:
                heappush(self._heap, entry)
            elif entry[0] > self._heap[0][0]:
                heappushpop(self._heap, entry)
        self._seen += len(array)

    def ids(self) -> list[str]:
        """Return the ids, largest value first; an id that occurs several times is listed once."""
        return list(dict.fromkeys(id_ for _, _, id_ in sorted(self._heap, reverse=True)))


def three_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values rounded to three significant digits.

    >>> three_digits(np.array([0.0, 7.0, 1234.0, -0.45678]))
    array([ 0.00e+00,  7.00e+00,  1.23e+03, -4.57e-01])
    """
    size = np.abs(values)
    exponent = np.floor(np.log10(size, out=np.zeros_like(size), where=size > TINY))
    # Divided by a power of ten that is exact, so that 0.3 does not become 0.30000000000000004.
    down, up = 10.0 ** np.maximum(exponent - 2, 0), 10.0 ** np.maximum(2 - exponent, 0)
    rounded: NDArray[np.float64] = np.round(values / down * up) / up * down
    return rounded


def round_edges(low: float, high: float) -> list[float]:
    """Return edges of about `BINS` bins over low..high, at multiples of 1, 2 or 5 times a power of ten.

    >>> round_edges(0, 4.5)[:4], round_edges(0, 4.5)[-1]
    ([0.0, 0.2, 0.4, 0.6], 4.6)
    """
    width = (high - low) / BINS or 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next(factor for factor in (1, 2, 5, 10) if factor * power >= width * 0.9) * power
    first, last = math.floor(low / step), math.floor(high / step) + 1
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]
