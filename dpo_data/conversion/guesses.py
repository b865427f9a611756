"""Conversions of a table that no source knows, guessed from the names and values of its columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpo_data.options import SIDES, Axis
from dpo_data.records import FIELDS
from dpo_data.sources.fields import Row
from dpo_data.sources.two_answers import answer_columns, label_column, layout_of

#: Names of a prompt column, the likeliest first.
PROMPTS = ("prompt", "question", "instruction", "query", "input", "context", "messages", "conversation", "problem")
#: Words that distinguish the name of the preferred response's column from that of the other one.
TWINS = (
    ("chosen", "rejected"),
    ("preferred", "dispreferred"),
    ("preferred", "rejected"),
    ("better", "worse"),
    ("good", "bad"),
    ("accepted", "rejected"),
    ("winner", "loser"),
    ("positive", "negative"),
    ("win", "lose"),
    ("pos", "neg"),
)
RESPONSES = ("responses", "answers", "completions", "candidates", "generations", "outputs")
SCORES = ("scores", "score", "ratings", "rating", "rewards", "reward")
RANKS = ("ranks", "rank", "ranking")
#: Names of the text of a response that is an object.
TEXTS = ("text", "answer", "content", "response", "completion", "output", "value")
#: A column with more values than this is not a label.
MAX_LABELS = 10


@dataclass(frozen=True)
class Attempt:
    """A conversion that may suit a file.

    Attributes:
        source: its name.
        mapping: field -> column; a column in capitals was not found.
        labels: the values of a label whose meaning only the user knows.
        axis: the judgment that counts.
        matching: share of the rows that have the columns of the source, without a mapping.
    """

    source: str
    mapping: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    axis: Axis | None = None
    matching: float = 0.0

    @property
    def complete(self) -> bool:
        """True if nothing is left to fill in."""
        return self.has_columns and not self.labels

    @property
    def has_columns(self) -> bool:
        """True if a column was found for each field."""
        return not any(self.is_missing(name) for name in self.mapping)

    def is_missing(self, name: str) -> bool:
        """Return True if no column was found for a field."""
        return self.mapping[name] == missing(name)

    def words(self) -> list[str]:
        """Return the options of the command line."""
        words = [] if self.axis is None else ["--axis", self.axis]
        for name, column in self.mapping.items():
            if name != column:
                words += ["--map", f"{name}={column}"]
        for label in self.labels:
            words += ["--label-map", f"{label}={'|'.join(SIDES)}"]
        return words


def missing(name: str) -> str:
    """Return the word that stands for a column to fill in.

    >>> missing("prompt")
    'PROMPT_COLUMN'
    """
    return f"{name.upper()}_COLUMN"


def guesses(rows: Sequence[Row]) -> list[Attempt]:
    """Return the conversions with --map that may suit rows, the likeliest first; at least one, to be completed.

    A column that names the better answer is never a text.
    """
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).extend([] if value is None or value == "" else [value])
    example = {name: next(iter(found), None) for name, found in values.items()}
    attempts = [_two_answers(example, values), _ranked(example), _pairs(example, values)]
    found = [attempt for attempt in attempts if attempt is not None]
    return sorted(found, key=_number_missing)


def _number_missing(attempt: Attempt) -> int:
    return sum(attempt.is_missing(name) for name in attempt.mapping)


def _named(columns: Mapping[str, Any], names: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in reversed([*columns])}
    return next((lower[name] for name in names if name in lower), None)


def _two_answers(example: Row, values: Mapping[str, Sequence[Any]]) -> Attempt | None:
    answers = answer_columns(example)
    if answers is None or not all(isinstance(value, str | list) for name in answers for value in values[name]):
        return None
    label = label_column({name: value for name, value in example.items() if name not in answers})
    if label is None:  # two texts without a label may be anything
        return None
    found = list(dict.fromkeys(_label(value) for value in values[label]))
    if not 0 < len(found) <= MAX_LABELS or None in found:
        return None
    prompt = _named(example, PROMPTS) or missing("prompt")
    mapping = {"prompt": prompt, "a": answers[0], "b": answers[1], "label": label}
    layout = layout_of(example, mapping)
    known = layout.meaning if layout is not None and layout.meaning is not None else lambda text: None
    unknown = any(known(str(text)) is None for text in found)
    return Attempt("two-answers", mapping, tuple(sorted(str(text) for text in found)) if unknown else ())


def _label(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float) and len(str(value)) <= 40 else None


def _ranked(example: Row) -> Attempt | None:
    lists = {name: value for name, value in example.items() if isinstance(value, list)}
    responses = _named(lists, RESPONSES)
    if responses is None:
        return None
    prompt = _named(example, PROMPTS) or missing("prompt")
    item = next(iter(lists[responses]), None)
    within: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
    text = _named(within, TEXTS)
    path = f"{responses}." if text is not None else ""
    places = within if text is not None else example
    judgment = next(
        (name for name in ("ranks", "scores") if _named(places, RANKS if name == "ranks" else SCORES)), None
    )
    column = _named(places, RANKS if judgment == "ranks" else SCORES)
    judged = judgment or "scores"
    mapping = {"prompt": prompt, "responses": path + text if text is not None else responses}
    return Attempt("ranked", mapping | {judged: path + column if column is not None else missing(judged)})


def _pairs(example: Row, values: Mapping[str, Sequence[Any]]) -> Attempt:
    has_answers = answer_columns(example) is not None
    texts = {
        name: value
        for name, value in example.items()
        if _is_text(values[name], may_be_label=has_answers or _judges(name))
    }
    chosen, rejected = _twins(texts, set(values) - set(texts))
    prompt = _named({name: found for name, found in values.items() if _is_text(found, may_be_label=False)}, PROMPTS)
    mapping = dict(zip(FIELDS, (prompt, chosen, rejected), strict=True))
    return Attempt("pairs", {name: column or missing(name) for name, column in mapping.items()})


def _judges(name: str) -> bool:
    """Return True if a column of this name is as likely a label as a text."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return words[0] in ("winner", "loser", "preferred", "dispreferred", "better", "worse", "win", "lose", "best")


def _is_text(values: Sequence[Any], *, may_be_label: bool) -> bool:
    """Return True if a column holds texts or dialogues; of one that may be a label, some value must be a sentence."""
    texts = [value for value in values if isinstance(value, str | list | Mapping)]
    if not texts or len(texts) < len(values):
        return False
    if not may_be_label:
        return True
    return any(
        not isinstance(text, str) or " " in text.strip() or len(text) > 40 or not text.isascii() for text in texts
    )


def _twins(columns: Mapping[str, Any], others: set[str]) -> tuple[str | None, str | None]:
    """Return the columns of chosen and rejected, which differ in one word; else those that have one such word.

    Args:
        columns: those that hold texts.
        others: those that do not; the twin of such a column is not a text either.
    """
    lower = {name.lower(): name for name in columns}
    for first, second in TWINS:
        for name, column in lower.items():
            words = re.split(r"([^a-z0-9]+)", name)
            twin = "".join(second if word == first else word for word in words)
            if first in words and twin in lower:
                return column, lower[twin]
    alone: list[str | None] = []
    not_texts = {name.lower() for name in others}
    labels = {word for twin in TWINS if not_texts.intersection(twin) for word in twin}
    for side in (0, 1):
        words_of_side = dict.fromkeys(twin[side] for twin in TWINS if twin[side] not in labels)
        alone.append(next((lower[word] for word in words_of_side if word in lower), None))
    return alone[0], alone[1]
