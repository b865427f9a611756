"""Rules that guess the preferred response without reading it: what a model could learn instead of the preference."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from dpo_data.checks.refusal_against_refusal import is_refusal
from dpo_data.inspect.statistics.models import RuleScore

LIST_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)


@dataclass(frozen=True)
class PreferenceRule:
    """A rule prefers the response of which `measure` is larger, and decides nothing where it is equal."""

    name: str
    measure: Callable[[str], int]


def list_items(response: str) -> int:
    r"""Lines that are items of a list.

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


def rule_score(pairs: int, decided: int, right: int) -> RuleScore:
    """The score of a rule that decided so many of the pairs, and was right on so many of those."""
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
    """The interval that holds a share with 95% confidence, of which `hits` of `count` (at least 1) were seen.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(end, 4) for end in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    share = hits / count
    center = share + z * z / (2 * count)
    spread = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale)
