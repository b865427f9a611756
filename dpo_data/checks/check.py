"""What a check is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpo_data.records import PairKeys, PairTexts, PreferencePair

Severity = Literal["error", "warning"]


class Finding(NamedTuple):
    """What a row check found: the field it is about, and one sentence."""

    field: str
    message: str


@dataclass(frozen=True)
class RowCheck:
    """A check of one pair. An error puts the row in quarantine, a warning keeps and counts it.

    `find` gets the pair and its texts, which the caller makes once for all checks.
    """

    code: str
    severity: Severity
    summary: str
    hint: str
    find: Callable[[PreferencePair, PairTexts], Finding | None]


#: The keys of one row, as the dataset checks read them: the hashes of `records.PairKeys`, the number of the split, and
#: the position of the row in that split.
ROW_KEY = np.dtype([*((name, "V16") for name in PairKeys._fields), ("split", "u1"), ("index", "u8")], align=False)
#: The same with what the deep checks compare: the key of the first prompt that is nearly this one, and the hashes of
#: the unordered pair and of chosen once white space and case are made alike.
DEEP_ROW_KEY = np.dtype([*ROW_KEY.descr, ("near_prompt", "V16"), ("alike", "V16"), ("alike_chosen", "V16")])
RowKeys = NDArray[np.void]


@dataclass(frozen=True)
class DatasetCheck:
    """A check over a whole data set; always a warning, since no single row is wrong by itself.

    `find` gets the keys of all rows that share some prompts (or some values of another field of the keys: `by`), in the
    order of reading, and returns index pairs into them, (N, 2): a row the finding is about, and the earlier row that it
    repeats or contradicts.
    """

    code: str
    summary: str
    hint: str
    find: Callable[[RowKeys], NDArray[np.intp]]
    by: str = "prompt"
