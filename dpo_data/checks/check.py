"""Row checks and dataset checks, and the row keys that dataset checks compare."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.options import SPLITS, Severity, SplitName
from dpo_data.records import PairKeys, PairTexts, PreferencePair, TextPair


class Finding(NamedTuple):
    """A problem that a row check found: the field it is about, and one sentence."""

    field: str
    message: str


@dataclass(frozen=True)
class RowCheck:
    """A check of one pair.

    Attributes:
        code: stable name, the same as that of the module.
        severity: "error" quarantines the row; "warning" counts it and keeps the pair.
        summary: what the check finds, in a few words.
        hint: what to do about a finding.
        find: returns a finding, or None if the pair passes; pure. It gets the pair and its texts, which the caller
            computes once for all checks.
        example: a pair that fails this check.
        suspects: returns the rows that `find` may object to, and maybe others; None if every pair must be seen.
        find_deep: finds more than `find` at a higher cost, in `validate --deep`; None if there is no more to find.
    """

    code: str
    severity: Severity
    summary: str
    hint: str
    find: Callable[[PreferencePair, PairTexts], Finding | None]
    example: TextPair
    suspects: Callable[[TextColumns], Suspects] | None = None
    find_deep: Callable[[PreferencePair, PairTexts], Finding | None] | None = None


#: The keys of one row: the hashes of `records.PairKeys`, the number of its split, and its position in that split.
ROW_KEY = np.dtype([*((name, "V16") for name in PairKeys._fields), ("split", "u1"), ("index", "u8")], align=False)
#: `ROW_KEY` and what the deep checks compare: the key of the first prompt that is nearly the same, and hashes of the
#: unordered pair and of chosen after normalizing whitespace, case and Unicode; and the length of chosen.
DEEP_ROW_KEY = np.dtype(
    [
        *ROW_KEY.descr,
        *((name, "V16") for name in ("near_prompt", "normalized_unordered", "normalized_chosen")),
        ("chosen_characters", "u4"),
    ]
)
RowKeys = NDArray[np.void]


@dataclass(frozen=True)
class DatasetCheck:
    """A check that compares the rows of a dataset; always a warning, because no row is wrong by itself.

    Attributes:
        code: stable name, the same as that of the module.
        summary: what the check finds, in a few words.
        hint: what to do about a finding.
        find: returns pairs of positions in the keys, (N, 2): a row, and the earlier row that it repeats or contradicts.
            It gets the keys of all rows with some values of the field `by`, in reading order.
        example: split -> pairs of a small dataset, whose last pair fails this check.
        by: field of the keys that all rows of a finding share.
    """

    code: str
    summary: str
    hint: str
    find: Callable[[RowKeys], NDArray[np.intp]]
    example: Mapping[SplitName, tuple[TextPair, ...]]
    by: str = "prompt"


def no_rows(keys: RowKeys) -> NDArray[np.intp]:
    """Return no rows: for a check that compares the texts of all pairs, of which the keys say nothing."""
    return np.empty((0, 2), np.intp)


def first_row_of_group(keys: RowKeys, field: str) -> NDArray[np.intp]:
    """Return, for each row, the position of the first row with the same value of a field."""
    _, first, group = np.unique(keys[field], return_index=True, return_inverse=True)
    return first[group]


def first_train_row_of_group(keys: RowKeys, field: str) -> NDArray[np.intp]:
    """Return, for each row, the position of the first train row with the same value of a field, or -1."""
    _, group = np.unique(keys[field], return_inverse=True)
    train = np.flatnonzero(keys["split"] == SPLITS.index("train"))
    first = np.full(len(keys), len(keys), np.intp)
    np.minimum.at(first, group[train], train)
    return np.where(first[group] < len(keys), first[group], -1)


def with_first_row(selected: NDArray[np.bool_], first_row: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the positions of the selected rows, each with its first row, (N, 2)."""
    rows = np.flatnonzero(selected)
    return np.stack([rows, first_row[rows]], axis=1)
