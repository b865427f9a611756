"""Judgments of one pair by several judges, told apart by a column of the raw rows: a copy of a row is no second one."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.row_keys import RowKeyStore
from dpo_data.prepared.manifest import JudgmentCounts
from dpo_data.records import PairKeys

_JUDGES = ("annotator", "evaluator", "judge", "labeler", "labeller", "rater", "reviewer", "worker")
#: Names of columns that say who judged a row.
JUDGE_COLUMNS = frozenset(
    f"{name}{ending}" for judge in _JUDGES for name in (judge, judge.title()) for ending in ("", "_id", "_name")
)
#: One judgment: the two responses to a prompt, their order, and the judge.
JUDGMENT = np.dtype([("unordered", "V16"), ("pair", "V16"), ("judge", "V16")])
Judgments = NDArray[np.void]


def judge_of(row: Mapping[str, Any]) -> bytes | None:
    """Return a hash of the judge of a raw row, or None if the row does not name one."""
    if JUDGE_COLUMNS.isdisjoint(row):
        return None
    names = [value for column, value in row.items() if column in JUDGE_COLUMNS and value not in (None, "")]
    return blake2b(repr(names).encode("utf-8", "backslashreplace"), digest_size=16).digest() if names else None


def judgment_table(judged: Sequence[tuple[PairKeys, bytes]]) -> Judgments:
    """Return the judgments of pairs by judges."""
    hashes = b"".join(keys.unordered + keys.pair + judge for keys, judge in judged)
    return np.frombuffer(hashes, JUDGMENT)


def judgment_store(folder: Path) -> RowKeyStore:
    """Return a store of judgments, which keeps those of one pair together."""
    return RowKeyStore(folder, "unordered", JUDGMENT)


def count_judgments(buckets: Iterable[Judgments]) -> JudgmentCounts:
    """Return the counts over all judgments; those of one pair are in one bucket.

    Of the ways to draw two of the n judgments of a pair, a in one direction and b in the other, a share of
    a b / (n (n - 1) / 2) disagrees.
    """
    repeated = judgments = disputed = 0
    disagreements = 0.0
    for table in buckets:
        distinct = np.unique(table)  # a judge who says the same again says nothing new
        _, first, group = np.unique(distinct["unordered"], return_index=True, return_inverse=True)
        one_way = distinct["pair"] == distinct["pair"][first[group]]
        _, judges = np.unique(np.unique(distinct[["unordered", "judge"]])["unordered"], return_counts=True)
        several = judges > 1
        n = np.bincount(group, minlength=len(first))[several]
        a = np.bincount(group, weights=one_way, minlength=len(first))[several]
        repeated += len(n)
        judgments += int(n.sum())
        disputed += int((a < n).sum())
        disagreements += float((2 * a * (n - a) / (n * (n - 1))).sum())
    return JudgmentCounts(repeated=repeated, judgments=judgments, disputed=disputed, disagreements=disagreements)
