"""K scored or ranked responses of one prompt to pairs, by a named policy; pure, and the same on every machine.

A pair's chosen is always worth more than its rejected: ties are left out, or kept in the order of the raw row when the
user says so, never broken at random. What is left out is counted, by reason.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, combinations, pairwise

from dpo_data.options import Pairing, Tie
from dpo_data.records import Response, ScoredResponses, canonical

#: Margins are differences of decimal scores: 0.3 - 0.2 shall count as 0.1.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class PairingPolicy:
    """Which pairs to make of K responses.

    Attributes:
        pairing: best-worst is one pair; best-rest pairs the best with every other; all pairs every two; adjacent pairs
            neighbours in the order from best to worst; random pairs the best with one other, drawn by `seed`.
        min_margin: least difference of scores, or of ranks.
        tie: drop pairs of equal worth, or keep them with the response that stands first in the row as chosen.
        max_pairs_per_prompt: of more pairs those with the largest margins stay.
        seed: for random; the draw depends on it and on the texts alone.
    """

    pairing: Pairing = "best-worst"
    min_margin: float = 0.0
    tie: Tie = "drop"
    max_pairs_per_prompt: int | None = None
    seed: int = 0


DEFAULT_POLICY = PairingPolicy()


@dataclass(frozen=True)
class Match:
    """Two responses to one prompt."""

    group: ScoredResponses
    chosen: Response
    rejected: Response

    @property
    def margin(self) -> float:
        """By how much chosen is better."""
        return _sort_score(self.chosen) - _sort_score(self.rejected)

    @property
    def rows(self) -> tuple[int, int]:
        """The raw rows that chosen and rejected come from."""
        return self.chosen.row, self.rejected.row


@dataclass
class Matches:
    """What a policy made of some prompts.

    Attributes:
        kept: the pairs.
        left_out: reason -> how many pairs, or responses that are in no pair.
        row_reasons: raw row -> the first reason why something of it was left out.
    """

    kept: list[Match] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    row_reasons: dict[int, str] = field(default_factory=dict)

    def leave_out(self, reason: str, rows: Sequence[int]) -> None:
        """Count one pair or response."""
        self.left_out[reason] += 1
        for row in rows:
            self.row_reasons.setdefault(row, reason)


def make_pairs(groups: Sequence[ScoredResponses], policy: PairingPolicy) -> Matches:
    """The pairs of each group, and what is left out; a cap counts over all groups with one prompt."""
    matches = Matches()
    for group in groups:
        ordered = _usable(group, matches)
        if len(ordered) < 2:
            for response in ordered:
                matches.leave_out("single_response", [response.row])
            continue
        candidates = [Match(group, ordered[i], ordered[j]) for i, j in _candidates(policy.pairing, len(ordered))]
        good = []
        for match in candidates:
            reason = _reason_against(match, policy)
            if reason is None:
                good.append(match)
            else:
                matches.leave_out(reason, match.rows)
        if policy.pairing == "random" and len(good) > 1:
            drawn = good[_draw(group, policy.seed) % len(good)]
            for match in good:
                if match is not drawn:
                    matches.leave_out("not_drawn", match.rows)
            good = [drawn]
        in_candidates = {row for match in candidates for row in match.rows}
        for response in ordered:
            if response.row not in in_candidates:
                matches.row_reasons.setdefault(response.row, "not_paired")
        matches.kept += good
    if policy.max_pairs_per_prompt is not None:
        _cap(matches, policy.max_pairs_per_prompt)
    return matches


def _sort_score(response: Response) -> float:
    return -math.inf if response.sort_score is None else response.sort_score


def _usable(group: ScoredResponses, matches: Matches) -> list[Response]:
    """The responses that have a score, from best to worst, equals in the order of the row.

    An empty one, or a text that stands there twice, is left out where two others remain; where not, the row checks are
    to find it.
    """
    scored = []
    for response in group.responses:
        if response.sort_score is None:
            matches.leave_out(response.reason or "unscored", [response.row])
        else:
            scored.append(response)
    ordered = sorted(scored, key=_sort_score, reverse=True)
    seen: set[str | bytes] = set()
    fine, flawed = [], []
    for response in ordered:
        content = response.content if isinstance(response.content, str) else canonical(response.content)
        if content in seen:
            flawed.append(("identical_responses", response))
        elif not _has_text(response):
            flawed.append(("empty_response", response))
        else:
            fine.append(response)
        seen.add(content)
    if len(fine) < 2:
        return ordered
    for reason, response in flawed:
        matches.leave_out(reason, [response.row])
    return fine


def _has_text(response: Response) -> bool:
    content = response.content
    texts = [content] if isinstance(content, str) else chain.from_iterable((m.content, m.tool_calls) for m in content)
    return any(text and not text.isspace() for text in texts)


def _candidates(pairing: Pairing, count: int) -> Iterator[tuple[int, int]]:
    """Places of chosen and rejected among responses in order from best to worst."""
    if pairing == "best-worst":
        return iter([(0, count - 1)])
    if pairing == "adjacent":
        return pairwise(range(count))
    if pairing == "all":
        return combinations(range(count), 2)
    return ((0, other) for other in range(1, count))  # best-rest, and what random draws from


def _reason_against(match: Match, policy: PairingPolicy) -> str | None:
    if match.margin < TOLERANCE and policy.tie == "drop":
        return "tie"
    return "margin" if match.margin < policy.min_margin - TOLERANCE else None


def _draw(group: ScoredResponses, seed: int) -> int:
    """A number that the texts and the seed alone decide."""
    digest = blake2b(str(seed).encode(), digest_size=8)
    for content in (group.prompt, *(response.content for response in group.responses)):
        digest.update(blake2b(canonical(content)).digest())
    return int.from_bytes(digest.digest())


def _cap(matches: Matches, most: int) -> None:
    """Leave out all but the `most` widest pairs of each prompt."""
    by_prompt: dict[bytes, list[Match]] = {}
    for match in matches.kept:
        by_prompt.setdefault(canonical(match.group.prompt), []).append(match)
    surplus = {
        id(match)
        for of_prompt in by_prompt.values()
        for match in sorted(of_prompt, key=lambda match: match.margin, reverse=True)[most:]
    }
    for match in matches.kept:
        if id(match) in surplus:
            matches.leave_out("cap", match.rows)
    matches.kept = [match for match in matches.kept if id(match) not in surplus]
