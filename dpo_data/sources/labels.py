"""Labels that say which of two answers, A and B, is better: their meaning where the label itself names an answer.

A label such as "model_a", "A" or "A>B" names an answer. A number does not: in some tables 1 is the first answer, in
others the second. Tables whose numbers are known are listed in `two_answers`; for all others the user must say what
each label means.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_data.errors import RowError

#: By how much B is better (negative: A is; 0: a tie), or why the row is in no pair, in one word.
Verdict = float | str

#: What --label-map can make of a label.
VERDICTS: dict[str, Verdict] = {"a": -1.0, "b": 1.0, "tie": 0.0, "skip": "skipped"}

_TIE = re.compile(r"ties?|draw|equal|same|both( good)?|tie \((bothgood|both good|inconsistent)\)|a=b")
_BOTH_BAD = re.compile(r"both bad|bothbad|tie \((bothbad|both bad)\)|neither")
#: Words before the letter or number of an answer, as in response_a or "Model A".
_NAMES = r"(?:model|response|answer|assistant|output|option|completion|candidate|text|reply|choice)"
_BETTER = {"a>b": -1.0, "a>>b": -1.0, "b<a": -1.0, "b>a": 1.0, "b>>a": 1.0, "a<b": 1.0}


def label_text(value: Any, path: str) -> str | None:
    """Return a label as text, or None if it is null or blank; 1, 1.0 and "1" are the same label.

    Raises: RowError: wrong_type.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, str | int | float):
        return str("" if value is None else value).strip() or None
    raise RowError("wrong_type", path, f"{path} is {type(value).__name__}, not a label.")


def named_verdict(label: str, a: str, b: str) -> Verdict | None:
    """Return the verdict of a label that names an answer or a tie, or None if it does neither.

    Args:
        label: as text.
        a: column of the first answer.
        b: column of the second answer.

    >>> named_verdict("model_a", "response_a", "response_b"), named_verdict("B>A", "response_A", "response_B")
    (-1.0, 1.0)
    >>> named_verdict("1", "output_1", "output_2"), named_verdict("output_1", "output_1", "output_2")
    (None, -1.0)
    """
    text = _plain(label)
    if text in (_plain(a), _plain(b)):
        return -1.0 if text == _plain(a) else 1.0
    if _TIE.fullmatch(text):
        return 0.0
    if _BOTH_BAD.fullmatch(text):
        return "both_bad"
    ends = [ending(column) for column in (a, b)]
    if ends == ["a", "b"] and (compared := _BETTER.get(text.replace(" ", "").strip("[]"))) is not None:
        return compared
    for end, verdict in zip(ends, (-1.0, 1.0), strict=True):
        # A number alone names no answer.
        if end and re.fullmatch(rf"{_NAMES}{'' if end.isdigit() else '?'} ?{end}", text):
            return verdict
    return None


def ending(column: str) -> str:
    """Return the letter, number or word that distinguishes a column from the other answer's.

    >>> ending("response_a"), ending("answer1"), ending("Output B"), ending("text_left")
    ('a', '1', 'b', 'left')
    """
    text = _plain(column)
    found = re.search(r"(?:^| )(a|b|left|right|first|second)$|([0-9])$", text)
    return (found[1] or found[2]) if found else ""


def _plain(text: str) -> str:
    """Return a label or a column name in lower case, with spaces between its words."""
    return re.sub(r"[\s_]+", " ", text).strip().lower()


def mapped_verdict(label: str, mapping: Mapping[str, str]) -> Verdict | None:
    """Return what --label-map makes of a label, or None; the case counts only if it distinguishes two labels."""
    if label not in mapping:
        folded = [value for value in mapping if value.lower() == label.lower()]
        label = folded[0] if len(folded) == 1 else label
    return VERDICTS[mapping[label]] if label in mapping else None


def majority(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of more than half of the judges, or "no_majority"."""
    return next((verdict for verdict in verdicts if 2 * verdicts.count(verdict) > len(verdicts)), "no_majority")


def unknown_label(label: str, path: str) -> RowError:
    """Return the error for a label whose meaning is not known."""
    return RowError("unknown_label", path, f"{path} is {label!r}, whose meaning is not known.")
