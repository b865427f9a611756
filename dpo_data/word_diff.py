"""Which words of two texts differ."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

#: A word with the white space before it; a punctuation mark or a Han or Kana character is a word of its own.
WORD = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+(?:['’]\w+)*|[^\w\s])|\s+")
#: Fewer equal words in a row are chance: a comma, "the".
LEAST_RUN = 2


class Piece(NamedTuple):
    """Part of a text, and whether it is not in the other one."""

    text: str
    differs: bool


def word_diff(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces; joined, the pieces of each give it back.

    >>> word_diff("It is very cold today.", "It is warm today.")[1]
    [Piece(text='It is', differs=False), Piece(text=' warm', differs=True), Piece(text=' today.', differs=False)]
    """
    ours, theirs = WORD.findall(one), WORD.findall(other)
    blocks = SequenceMatcher(None, ours, theirs).get_matching_blocks()
    runs = [block for block in blocks if block.size >= LEAST_RUN or block.size == min(len(ours), len(theirs)) > 0]
    return (
        _pieces(ours, [(run.a, run.a + run.size) for run in runs]),
        _pieces(theirs, [(run.b, run.b + run.size) for run in runs]),
    )


def _pieces(words: Sequence[str], equal_runs: Sequence[tuple[int, int]]) -> list[Piece]:
    pieces, end = [], 0
    for start, stop in [*equal_runs, (len(words), len(words))]:
        pieces.append(Piece("".join(words[end:start]), differs=True))
        pieces.append(Piece("".join(words[start:stop]), differs=False))
        end = stop
    return [piece for piece in pieces if piece.text]
