"""Text helpers of the checks: words, n-grams, responses, and the last user turn."""

import re

from dpo_data.dialogue import ASSISTANT_START, HUMAN_START
from dpo_data.records import ConversationalPair, PairTexts, PreferencePair

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    r"""Return the words of a text without case and punctuation.

    In a script without spaces, a whole phrase is one word.

    >>> words("\n\nHuman: How DO I tie it?")
    ['human', 'how', 'do', 'i', 'tie', 'it']
    """
    return WORD.findall(text.casefold())


def ngrams(tokens: list[str], n: int) -> list[str]:
    """Return every run of n words, joined by spaces; all words as one run if there are fewer than n.

    >>> ngrams(["how", "do", "i", "tie"], 3)
    ['how do i', 'do i tie']
    """
    return [" ".join(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))]


def responses(texts: PairTexts) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the field and the text of both responses."""
    _, chosen, rejected = texts
    return ("chosen", chosen), ("rejected", rejected)


def last_user_turn(pair: PreferencePair) -> str:
    r"""Return the last turn of the prompt, or the whole prompt if it is not a dialogue.

    >>> from dpo_data.records import TextPair
    >>> prompt = "\n\nHuman: Hi\n\nAssistant: Hi\n\nHuman: Why?\n\nAssistant:"
    >>> last_user_turn(TextPair(prompt=prompt, chosen="", rejected=""))
    'Why?'
    """
    if isinstance(pair, ConversationalPair):
        return pair.prompt[-1].content.strip()
    start = pair.prompt.rfind(HUMAN_START) + len(HUMAN_START)
    text = pair.prompt[start:] if start >= len(HUMAN_START) else pair.prompt
    return text.removesuffix(ASSISTANT_START).strip()
