"""Findings by code: how many, and the first few."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MAX_EXAMPLES = 5


@dataclass
class CodeCounts:
    """Rows by the code of a check, with the first examples of each."""

    max_examples: int = MAX_EXAMPLES
    rows: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, code: str, examples: Sequence[str], rows: int | None = None) -> None:
        """Count rows of one code; as many as there are examples, where `rows` is left out."""
        self.rows[code] += len(examples) if rows is None else rows
        kept = self.examples.setdefault(code, [])
        kept.extend(examples[: self.max_examples - len(kept)])

    def merge(self, other: "CodeCounts") -> None:
        """Count what comes later in reading order."""
        for code, rows in other.rows.items():
            self.add(code, other.examples[code], rows)

    def in_order(self, codes: Iterable[str]) -> dict[str, tuple[int, list[str]]]:
        """Code to rows and examples: the codes that were found, those of `codes` first and in that order."""
        order = [code for code in codes if code in self.rows]
        order += sorted(set(self.rows) - set(order))
        return {code: (self.rows[code], self.examples[code]) for code in order}
