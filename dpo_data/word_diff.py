"""Word diff of two texts."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

#: A word with the white space before it; punctuation marks and Han and Kana characters are words of their own.
WORD = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+(?:['’]\w+)*|[^\w\s])|\s+")
#: Shorter runs of equal words are chance: a comma, "the".
MIN_RUN = 2


class Piece(NamedTuple):
    """Part of a text; `differs` if the other text does not have it."""

    text: str
    differs: bool


def word_diff(first: str, second: str) -> tuple[list[Piece], list[Piece]]:
    """Return both texts in pieces, which give the text back when joined.

    >>> word_diff("It is very cold today.", "It is warm today.")[1]
    [Piece(text='It is', differs=False), Piece(text=' warm', differs=True), Piece(text=' today.', differs=False)]
    """
    words, other_words = WORD.findall(first), WORD.findall(second)
    blocks = SequenceMatcher(None, words, other_words).get_matching_blocks()
    runs = [block for block in blocks if block.size >= MIN_RUN or block.size == min(len(words), len(other_words)) > 0]
    return (
        _pieces(words, [(run.a, run.a + run.size) for run in runs]),
        _pieces(other_words, [(run.b, run.b + run.size) for run in runs]),
    )


def _pieces(words: Sequence[str], equal_runs: Sequence[tuple[int, int]]) -> list[Piece]:
    pieces, end = [], 0
    for start, stop in [*equal_runs, (len(words), len(words))]:
        pieces.append(Piece("".join(words[end:start]), differs=True))
        pieces.append(Piece("".join(words[start:stop]), differs=False))
        end = stop
    return [piece for piece in pieces if piece.text]
