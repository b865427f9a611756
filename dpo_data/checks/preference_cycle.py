"""Preferences that form a cycle."""

from collections import deque

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.check import DatasetCheck, RowKeys
from dpo_data.records import TextPair

#: A response to one prompt: the hashes of both.
Node = tuple[bytes, bytes]


def find(keys: RowKeys) -> NDArray[np.intp]:
    """Return each row that completes a cycle of preferences, with the earlier row at which the rest of it starts.

    A row that prefers A to B completes a cycle if earlier rows prefer B to C, C to ..., and the last of them to A. Two
    rows that contradict each other are not a cycle, and duplicate pairs complete a cycle once.
    """
    found = []
    preferred: dict[Node, dict[Node, int]] = {}
    for row in _candidates(keys).tolist():
        prompt, better, worse = (keys[name][row].tobytes() for name in ("prompt", "chosen", "rejected"))
        winner, loser = (prompt, better), (prompt, worse)
        if loser in (beaten := preferred.setdefault(winner, {})):
            continue
        if (first := _first_row_of_path(preferred, loser, winner)) is not None:
            found.append((row, first))
        beaten[loser] = row
    return np.array(found, np.intp).reshape(-1, 2)


def _candidates(keys: RowKeys) -> NDArray[np.intp]:
    """Return the rows that may be on a cycle: their chosen is rejected elsewhere, and their rejected chosen.

    Most datasets have no such rows, so this decides the cost. 64 bits of the hashes are enough to exclude rows.
    """
    prompt, chosen, rejected = (
        np.ascontiguousarray(keys[name]).view("<u8").reshape(-1, 2)[:, 0] for name in ("prompt", "chosen", "rejected")
    )
    ordered = np.sort(prompt)
    if not (ordered[2:] == ordered[:-2]).any():
        return np.empty(0, np.intp)
    _, group, judgments = np.unique(prompt, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(judgments[group] >= 3)  # a cycle has at least three rows
    winners, losers = (prompt ^ chosen)[rows], (prompt ^ rejected)[rows]
    while len(rows):
        kept = np.isin(winners, losers)
        kept[kept] = np.isin(losers[kept], winners)
        if kept.all():
            break
        rows, winners, losers = rows[kept], winners[kept], losers[kept]
    return rows


def _first_row_of_path(preferred: dict[Node, dict[Node, int]], start: Node, goal: Node) -> int | None:
    """Return the first row of a path from `start` to `goal` over at least one other response, or None."""
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


CHECK = DatasetCheck(
    code="preference_cycle",
    summary="completes a cycle of preferences (A over B, B over C, C over A) with an earlier row",
    hint="No score can satisfy all of them: remove the judgment you trust least, or train with label smoothing.",
    find=find,
    example={
        "train": (
            TextPair(prompt="Which fruit?", chosen="An apple.", rejected="A banana."),
            TextPair(prompt="Which fruit?", chosen="A banana.", rejected="A cherry."),
            TextPair(prompt="Which fruit?", chosen="A cherry.", rejected="An apple."),
        )
    },
)
