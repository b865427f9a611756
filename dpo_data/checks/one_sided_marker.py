"""White space or a marker with which only chosen, or only rejected, responses begin or end.

The first or last token then gives the label away, and that is what the model learns.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from dpo_data.checks.check import DatasetCheck, no_rows
from dpo_data.checks.columns import SPACE, VISIBLE, Suspects, TextColumns
from dpo_data.checks.counts import MAX_EXAMPLES, CodeCounts
from dpo_data.records import PairTexts, TextPair

#: Rows with a one-sided marker that make a finding; fewer may be chance.
MIN_ROWS = 5
#: Share of all pairs that they must be at least.
MIN_SHARE = 0.05
#: Share of them that may have the marker on the other side.
MAX_OTHER_SHARE = 0.1
#: Standard errors of a fair coin that the difference of both sides must exceed.
MIN_DEVIATION = 2.0

_SPECIAL = r"<[|\uff5c][^<>|\uff5c\s]{1,40}[|\uff5c]>|\[/?INST\]|</?s>|<(?:bos|eos|end_of_turn)>"
_START = re.compile(rf"\s*({_SPECIAL}|(?:#+ *)?(?:Assistant|AI|Bot|Answer|Response|Output|A):)")
_END = re.compile(rf"({_SPECIAL}|###)\s*\Z")
#: First characters of the markers at the start, and last ones of those at the end: few responses have them.
_FIRST_CHARACTERS = frozenset("<[#ABRO")
_LAST_CHARACTERS = frozenset(">]#")
#: The bytes of those that are no letters, and the length of the longest other marker at the start, after a space.
_OPENING, _CLOSING = np.frombuffer(b"<[#", np.uint8), np.frombuffer(b">]#", np.uint8)
_LABEL_CHARACTERS = len(" Assistant:")
#: Characters at each end of a response in which white space and markers count.
END_CHARACTERS = 64


def marks(texts: PairTexts) -> Iterator[tuple[str, str]]:
    r"""Yield what only one of the two responses begins or ends with, in words, and the field that does.

    >>> list(marks(("Hi", "Yes", " No\n")))
    [('begins with a space', 'rejected'), ('ends with a line break', 'rejected')]
    """
    _, chosen, rejected = texts
    if not chosen or not rejected:
        return
    heads = chosen[:END_CHARACTERS], rejected[:END_CHARACTERS]
    tails = chosen[-END_CHARACTERS:], rejected[-END_CHARACTERS:]
    starts = heads[0].lstrip(), heads[1].lstrip()
    ends = tails[0].rstrip(), tails[1].rstrip()
    # Lengths and single characters first: they are nearly always enough.
    if len(heads[0]) - len(starts[0]) != len(heads[1]) - len(starts[1]):
        yield from _white_space(
            "begins with", *(head[: len(head) - len(start)] for head, start in zip(heads, starts, strict=True))
        )
    if len(tails[0]) - len(ends[0]) != len(tails[1]) - len(ends[1]):
        yield from _white_space("ends with", *(tail[len(end) :] for tail, end in zip(tails, ends, strict=True)))
    if starts[0][:1] in _FIRST_CHARACTERS or starts[1][:1] in _FIRST_CHARACTERS:
        yield from _markers("begins with", *map(_START.match, starts))
    if ends[0][-1:] in _LAST_CHARACTERS or ends[1][-1:] in _LAST_CHARACTERS:
        yield from _markers("ends with", *map(_END.search, ends))


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows that may have a mark: those whose responses do not both begin alike and end in visible ASCII."""
    first = [response.first_bytes(2) for response in columns.responses]
    starts_with_space = [codes[:, 0] == SPACE for codes in first]
    found: Suspects = starts_with_space[0] != starts_with_space[1]
    for response, codes, has_space in zip(columns.responses, first, starts_with_space, strict=True):
        start, end = np.where(has_space, codes[:, 1], codes[:, 0]), response.last_byte()
        found |= ~VISIBLE[start] | ~VISIBLE[end] | np.isin(start, _OPENING) | np.isin(end, _CLOSING)
        # Other markers at the start end with a colon.
        colons = response.find(":")
        rows = response.rows_of(colons)
        found[rows[colons - response.starts[rows] <= _LABEL_CHARACTERS]] = True
    return found


def _markers(verb: str, chosen: re.Match[str] | None, rejected: re.Match[str] | None) -> Iterator[tuple[str, str]]:
    if chosen is None and rejected is None:
        return
    found = {"chosen": chosen[1] if chosen else "", "rejected": rejected[1] if rejected else ""}
    if found["chosen"] != found["rejected"]:
        yield from ((f'{verb} "{marker}"', name) for name, marker in found.items() if marker)


def _white_space(verb: str, chosen: str, rejected: str) -> Iterator[tuple[str, str]]:
    """Yield the white space that one side has beyond that of the other."""
    name = "chosen" if len(chosen) > len(rejected) else "rejected"
    extra = chosen[len(rejected) :] or rejected[len(chosen) :]
    yield f"{verb} {'a line break' if chr(10) in extra else 'a space'}", name


@dataclass
class OneSidedMarks:
    """Counts of one-sided marks over pairs.

    Attributes:
        max_examples: pairs to keep of each mark and side.
        pairs: number of pairs.
        rows: mark and side -> number of pairs.
        first: mark and side -> origin and id of the first of them.
    """

    max_examples: int = MAX_EXAMPLES
    pairs: int = 0
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, origin: str, texts: PairTexts, id_: str = "") -> bool:
        """Count one pair, and return True if its origin and id are kept."""
        self.pairs += 1
        is_kept = False
        for mark in marks(texts):
            self.rows[mark] += 1
            first = self.first.setdefault(mark, [])
            if len(first) < self.max_examples:
                first.append((origin, id_))
                is_kept = True
        return is_kept

    def merge(self, later: "OneSidedMarks") -> None:
        """Add the counts of pairs that come later in reading order."""
        self.pairs += later.pairs
        self.rows.update(later.rows)
        for mark, first in later.first.items():
            kept = self.first.setdefault(mark, [])
            kept.extend(first[: self.max_examples - len(kept)])

    def findings(self) -> CodeCounts:
        """Return the marks that give the label away, with their first rows."""
        counts = CodeCounts(self.max_examples)
        for (mark, side), rows in sorted(self.rows.items()):
            other = self.rows[mark, "rejected" if side == "chosen" else "chosen"]
            is_one_sided = other <= MAX_OTHER_SHARE * rows and (rows - other) / sqrt(rows + other) > MIN_DEVIATION
            if rows >= MIN_ROWS and rows >= MIN_SHARE * self.pairs and is_one_sided:
                message = f"{side} {mark}, and the other does not: in {rows:,} pairs; the other way in {other:,}."
                origins, ids = zip(*self.first[mark, side], strict=True)
                counts.add(CHECK.code, [f"{origin}: {message}" for origin in origins], rows, list(filter(None, ids)))
        return counts


CHECK = DatasetCheck(
    code="one_sided_marker",
    summary="only chosen, or only rejected, responses begin or end with a space, a line break or a marker",
    hint="The model would learn the mark instead of the preference: strip it from the responses in the raw file.",
    find=no_rows,
    example={
        "train": tuple(
            TextPair(prompt=f"{number} + {number}?\n", chosen=f"{2 * number}.", rejected=f" About {number + 1}.")
            for number in range(2, 7)
        )
    },
)
