"""Preferences that run in a circle."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys

#: A response to one prompt, by their hashes.
Node = tuple[bytes, bytes]


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Each row that prefers A to B where earlier rows prefer B to C, C to ... and at last to A, with the first of them.

    Two rows that contradict each other are no circle here, and a pair that stands twice closes its circles once.
    """
    found = []
    preferred: dict[Node, dict[Node, int]] = {}
    for row in _candidates(keys).tolist():
        prompt, better, worse = (keys[name][row].tobytes() for name in ("prompt", "chosen", "rejected"))
        winner, loser = (prompt, better), (prompt, worse)
        if loser in (beaten := preferred.setdefault(winner, {})):
            continue
        if (first := _way_around(preferred, loser, winner)) is not None:
            found.append((row, first))
        beaten[loser] = row
    return np.array(found, np.intp).reshape(-1, 2)


def _candidates(keys: RowKeys) -> NDArray[np.intp]:
    """Positions of the rows that may lie on a circle: their chosen is rejected elsewhere, and their rejected chosen.

    Nearly every data set has none, so that this decides the price. 64 bits of the hashes are enough to leave rows out.
    """
    prompt, chosen, rejected = (
        np.ascontiguousarray(keys[name]).view("<u8").reshape(-1, 2)[:, 0] for name in ("prompt", "chosen", "rejected")
    )
    ordered = np.sort(prompt)
    if not (ordered[2:] == ordered[:-2]).any():
        return np.empty(0, np.intp)
    _, group, judgements = np.unique(prompt, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(judgements[group] >= 3)  # as many as a circle needs
    winners, losers = (prompt ^ chosen)[rows], (prompt ^ rejected)[rows]
    while len(rows):
        on = np.isin(winners, losers)
        on[on] = np.isin(losers[on], winners)
        if on.all():
            break
        rows, winners, losers = rows[on], winners[on], losers[on]
    return rows


def _way_around(preferred: dict[Node, dict[Node, int]], start: Node, goal: Node) -> int | None:
    """The first row on a way from `start` to `goal` over at least one response between them."""
    queue = deque((node, row) for node, row in preferred.get(start, {}).items() if node != goal)
    seen = {start, *(node for node, _ in queue)}
    while queue:
        node, first = queue.popleft()
        for following in preferred.get(node, ()):
            if following == goal:
                return first
            if following not in seen:
                seen.add(following)
                queue.append((following, first))
    return None


PREFERENCE_CYCLE = DatasetCheck(
    code="preference_cycle",
    summary="closes a circle of preferences (A over B, B over C, C over A) with an earlier row",
    hint="No score can satisfy them all: leave out the judgement you trust least, or train with label smoothing.",
    find=find,
)
