"""Rules that guess the preferred response without reading it: what a model could learn instead of the preference."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from math import sqrt

import numpy as np

from dpo_data.checks.counts import MAX_EXAMPLES
from dpo_data.checks.refusal_against_refusal import is_refusal
from dpo_data.inspect.batches import PairBatch
from dpo_data.inspect.statistics.distribution import three_digits
from dpo_data.inspect.statistics.models import MarginScore, RuleEntry, RuleScore

LIST_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)


@dataclass(frozen=True)
class PreferenceRule:
    """A rule that prefers the response with the larger `measure`, and decides nothing if both are equal."""

    name: str
    measure: Callable[[str], int]


def list_items(response: str) -> int:
    r"""Return the number of lines that are list items.

    >>> list_items("Two things:\n- salt\n2. pepper\nNot -this.")
    2
    """
    return len(LIST_ITEM.findall(response))


LONGER_WINS = "longer wins"
RULES: tuple[PreferenceRule, ...] = (
    PreferenceRule(LONGER_WINS, len),
    PreferenceRule("more lists wins", list_items),
    PreferenceRule("refuses less wins", lambda response: -is_refusal(response)),
)


class RuleStatistics:
    """Scores of every rule over all pairs, by raw file, by the value of a column, and by margin."""

    def __init__(self) -> None:
        self._tallies = [_RuleTally(rule) for rule in RULES]

    def add(self, batch: PairBatch, values: Sequence[str | None]) -> None:
        """Score more pairs, each with its value of the column."""
        # Rounded, so that they can be counted before the edges of their bins are known.
        margins = [None if margin != margin else margin for margin in three_digits(batch.margins).tolist()]
        for tally in self._tallies:
            tally.add(batch, values, margins)

    def result(self, margin_edges: Sequence[float]) -> list[RuleEntry]:
        """Return the scores; those by margin are of the bins between the edges."""
        return [tally.entry(margin_edges) for tally in self._tallies]


@dataclass
class _RuleTally:
    """Pairs by raw file, value, margin, and what one rule prefers: 1 chosen, -1 rejected, 0 neither."""

    rule: PreferenceRule
    counts: Counter[tuple[str, str | None, float | None, int]] = field(default_factory=Counter)
    right_examples: list[str] = field(default_factory=list)
    wrong_examples: list[str] = field(default_factory=list)

    def add(self, batch: PairBatch, values: Sequence[str | None], margins: Sequence[float | None]) -> None:
        measure = self.rule.measure
        measures = ((measure(chosen), measure(rejected)) for _, chosen, rejected in batch.texts)
        signs = [(one > other) - (one < other) for one, other in measures]
        self.counts.update(zip(batch.files, values, margins, signs, strict=True))
        for examples, wanted in ((self.right_examples, 1), (self.wrong_examples, -1)):
            found = (id_ for id_, sign in zip(batch.ids, signs, strict=True) if sign == wanted)
            examples += islice(found, MAX_EXAMPLES - len(examples))

    def entry(self, margin_edges: Sequence[float]) -> RuleEntry:
        files = {file: Counter[int]() for file, *_ in self.counts}
        of_value = {value: Counter[int]() for _, value, *_ in self.counts}
        bins = [Counter[int]() for _ in pairwise(margin_edges)]
        for (file, value, margin, sign), pairs in self.counts.items():
            files[file][sign] += pairs
            of_value[value][sign] += pairs
            if margin is not None and bins:
                # The last edge belongs to the last bin.
                bin_ = int(np.searchsorted(margin_edges, margin, side="right")) - 1
                bins[min(max(bin_, 0), len(bins) - 1)][sign] += pairs
        return RuleEntry(
            rule=self.rule.name,
            overall=_score(sum(files.values(), Counter[int]())),
            by_file={file: _score(signs) for file, signs in files.items()},
            by_value={value: _score(signs) for value, signs in of_value.items() if value is not None},
            by_margin=[
                MarginScore(low=low, high=high, score=_score(signs))
                for (low, high), signs in zip(pairwise(margin_edges), bins, strict=True)
            ],
            right_examples=self.right_examples,
            wrong_examples=self.wrong_examples,
        )


def _score(signs: Counter[int]) -> RuleScore:
    return rule_score(signs.total(), signs[1] + signs[-1], signs[1])


def rule_score(pairs: int, decided: int, right: int) -> RuleScore:
    """Return the score of a rule that decided `decided` of the pairs and was right on `right` of those."""
    low, high = wilson_interval(right, decided) if decided else (None, None)
    return RuleScore(
        pairs=pairs,
        decided=decided,
        right=right,
        coverage=decided / pairs if pairs else None,
        accuracy=right / decided if decided else None,
        low=low,
        high=high,
    )


def wilson_interval(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95% confidence interval of a share of which `hits` of `count` (at least 1) were seen.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(end, 4) for end in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    share = hits / count
    center = share + z * z / (2 * count)
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
