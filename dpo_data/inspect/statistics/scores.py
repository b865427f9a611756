"""Scores and margins that a source gives."""

from dpo_data.inspect.batches import PairBatch
from dpo_data.inspect.statistics.distribution import Largest, ValueCounts, round_edges
from dpo_data.inspect.statistics.models import ScoreDistributions

#: Rules are scored separately on the quarters of the margins.
MARGIN_BINS = 4


class ScoreStatistics:
    """Observer of scores and margins."""

    def __init__(self) -> None:
        self._chosen, self._rejected, self._margins = ValueCounts(), ValueCounts(), ValueCounts()
        self._widest, self._narrowest = Largest(), Largest()

    def add(self, batch: PairBatch) -> None:
        """Count more pairs."""
        self._chosen.add(batch.numbers("chosen_score"))
        self._rejected.add(batch.numbers("rejected_score"))
        self._margins.add(batch.margins)
        self._widest.add(batch.margins, batch.ids)
        self._narrowest.add(-batch.margins, batch.ids)

    def margin_edges(self) -> list[float]:
        """Return the edges of the quarters of all margins: fewer if margins repeat, none without margins."""
        if not self._margins.count:
            return []
        inner = self._margins.quantiles([number / MARGIN_BINS for number in range(1, MARGIN_BINS)])
        return sorted({self._margins.min, *inner, self._margins.max})

    def result(self) -> ScoreDistributions | None:
        """Return the distributions; None without scores and margins."""
        if not (self._chosen.count or self._rejected.count or self._margins.count):
            return None
        both = [counts for counts in (self._chosen, self._rejected) if counts.count]
        edges = round_edges(min(c.min for c in both), max(c.max for c in both)) if both else []
        chosen, rejected = (
            counts.distribution(edges) if counts.count else None for counts in (self._chosen, self._rejected)
        )
        margin = None
        if self._margins.count:
            margin = self._margins.distribution(round_edges(self._margins.min, self._margins.max))
        return ScoreDistributions(
            chosen=chosen,
            rejected=rejected,
            margin=margin,
            widest=self._widest.ids(),
            narrowest=self._narrowest.ids(),
        )
