"""Pairs of K scored or ranked responses to one prompt, by a named policy; pure, and the same on every machine.

The chosen response of a pair has the higher score. Ties are dropped, or kept in the order of the raw row, never broken
at random. What is left out is counted by reason.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain, combinations, pairwise
from typing import Annotated, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from dpo_data.options import Pairing, Tie
from dpo_data.records import Response, ScoredResponses, canonical

#: Margins are differences of decimal scores: 0.3 - 0.2 must count as 0.1.
TOLERANCE = 1e-9


class PairingPolicy(BaseModel):
    """The rules by which pairs are made of scored or ranked responses."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    pairing: Annotated[
        Pairing,
        Field(
            description="best-worst makes one pair; best-rest pairs the best response with every other; all makes "
            "every pair; adjacent pairs neighbors in the order of the scores; random pairs the best with one that "
            "is drawn."
        ),
    ] = "best-worst"
    min_margin: Annotated[float, Field(description="Minimum difference of scores or ranks.")] = 0.0
    tie: Annotated[
        Tie, Field(description="drop skips pairs with equal scores; keep keeps them in raw-row order, with margin 0.")
    ] = "drop"
    max_pairs_per_prompt: Annotated[
        int | None, Field(description="Maximum pairs per prompt, preferring the largest margins.")
    ] = None
    seed: Annotated[int, Field(description="For random; the draw depends on the seed and the texts alone.")] = 0


class PairingArguments(TypedDict, total=False):
    """Keyword arguments for the fields of `PairingPolicy`; None is the default."""

    pairing: Pairing | None
    min_margin: float | None
    tie: Tie | None
    max_pairs_per_prompt: int | None
    seed: int | None


@dataclass(frozen=True)
class Match:
    """Two responses to one prompt."""

    group: ScoredResponses
    chosen: Response
    rejected: Response

    @property
    def margin(self) -> float:
        """The score of chosen less that of rejected."""
        return _sort_score(self.chosen) - _sort_score(self.rejected)

    @property
    def rows(self) -> tuple[int, int]:
        """The raw rows of chosen and of rejected."""
        return self.chosen.row, self.rejected.row


@dataclass
class Matches:
    """Pairs that a policy made of some prompts.

    Attributes:
        kept: the pairs.
        left_out: reason -> pairs that were not made, and responses that are in no pair.
        row_reasons: raw row -> the first reason why a response or a pair of it was left out.
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
    """Return the pairs of each group, and what is left out; a prompt's maximum holds for all of its groups."""
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
    """Return the responses that have a score, from best to worst, ties in the order of the row.

    Empty responses and repeated texts are left out if two others remain; if not, the row checks find them.
    """
    scored = []
    for response in group.responses:
        if response.sort_score is None:
            matches.leave_out(response.reason or "unscored", [response.row])
        else:
            scored.append(response)
    ordered = sorted(scored, key=_sort_score, reverse=True)
    seen: set[str | bytes] = set()
    usable, flawed = [], []
    for response in ordered:
        content = response.content if isinstance(response.content, str) else canonical(response.content)
        if content in seen:
            flawed.append(("identical_responses", response))
        elif not _has_text(response):
            flawed.append(("empty_response", response))
        else:
            usable.append(response)
        seen.add(content)
    if len(usable) < 2:
        return ordered
    for reason, response in flawed:
        matches.leave_out(reason, [response.row])
    return usable


def _has_text(response: Response) -> bool:
    content = response.content
    texts = [content] if isinstance(content, str) else chain.from_iterable(message.texts for message in content)
    return any(text and not text.isspace() for text in texts)


def _candidates(pairing: Pairing, count: int) -> Iterator[tuple[int, int]]:
    """Return the positions of chosen and rejected among responses ordered from best to worst."""
    if pairing == "best-worst":
        return iter([(0, count - 1)])
    if pairing == "adjacent":
        return pairwise(range(count))
    if pairing == "all":
        return combinations(range(count), 2)
    return ((0, rejected) for rejected in range(1, count))  # best-rest, and the pairs from which random draws


def _reason_against(match: Match, policy: PairingPolicy) -> str | None:
    if match.margin < TOLERANCE and policy.tie == "drop":
        return "tie"
    return "margin" if match.margin < policy.min_margin - TOLERANCE else None


def _draw(group: ScoredResponses, seed: int) -> int:
    """Return a number that depends on the texts and the seed alone."""
    digest = blake2b(str(seed).encode(), digest_size=8)
    for content in (group.prompt, *(response.content for response in group.responses)):
        digest.update(blake2b(canonical(content)).digest())
    return int.from_bytes(digest.digest())


def _cap(matches: Matches, maximum: int) -> None:
    """Leave out all but the `maximum` pairs of each prompt that have the largest margins."""
    by_prompt: dict[bytes, list[Match]] = {}
    for match in matches.kept:
        by_prompt.setdefault(canonical(match.group.prompt), []).append(match)
    surplus = {
        id(match)
        for of_prompt in by_prompt.values()
        for match in sorted(of_prompt, key=lambda match: match.margin, reverse=True)[maximum:]
    }
    for match in matches.kept:
        if id(match) in surplus:
            matches.leave_out("cap", match.rows)
    matches.kept = [match for match in matches.kept if id(match) not in surplus]
