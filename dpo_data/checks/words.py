"""Texts as words: how overlap between texts is measured."""

import re

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    r"""The words of a text, without case and punctuation.

    Scripts that are written without spaces give a word a phrase.

    >>> words("\n\nHuman: How DO I tie it?")
    ['human', 'how', 'do', 'i', 'tie', 'it']
    """
    return WORD.findall(text.casefold())


def ngrams(of: list[str], n: int) -> list[str]:
    """Every run of n words, joined by spaces; all words as one where there are fewer.

    >>> ngrams(["how", "do", "i", "tie"], 3)
    ['how do i', 'do i tie']
    """
    return [" ".join(of[start : start + n]) for start in range(max(1, len(of) - n + 1))]
