"""Counts of findings by code, with the first examples of each."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_EXAMPLES = 5


@dataclass
class CodeCounts:
    """Number of rows by code, and the first examples of each code.

    Attributes:
        max_examples: examples to keep of each code.
        rows: code -> number of rows.
        examples: code -> the first examples.
        ids: code -> the id of the pair of each example; empty where ids are not known.
    """

    max_examples: int = MAX_EXAMPLES
    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, code: str, examples: Sequence[str], rows: int | None = None, ids: Sequence[str] = ()) -> None:
        """Count rows of one code; `rows` defaults to the number of examples."""
        self.rows[code] += len(examples) if rows is None else rows
        kept = self.examples.setdefault(code, [])
        free = self.max_examples - len(kept)
        kept.extend(examples[:free])
        if ids:
            self.ids.setdefault(code, []).extend(ids[:free])

    def merge(self, other: "CodeCounts") -> None:
        """Add the counts of rows that come later in reading order."""
        for code, rows in other.rows.items():
            self.add(code, other.examples[code], rows, other.ids.get(code, ()))

    def in_order(self, codes: Iterable[str]) -> dict[str, tuple[int, list[str]]]:
        """Return code -> rows and examples, first in the order of `codes`, then all other codes sorted."""
        order = [code for code in codes if code in self.rows]
        order += sorted(set(self.rows) - set(order))
        return {code: (self.rows[code], self.examples[code]) for code in order}
