"""Text helpers of the checks: words, n-grams, blank texts, responses, and the last user turn."""

import re

from dpo_data.dialogue import ASSISTANT_START, HUMAN_START
from dpo_data.records import ConversationalPair, PairTexts, PreferencePair

#: Letters of scripts that write no spaces between words: Thai, Lao, Burmese, Khmer, kana and Chinese characters.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
#: Characters that are shown as nothing, or as a space: white space, format characters, fillers, variation selectors.
BLANK = re.compile(
    "[\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]*"
)
#: Characters of the longest text that is checked for being blank.
MAX_BLANK = 200


def words(text: str) -> list[str]:
    r"""Return the words of a text without case and punctuation.

    In a script without spaces, every character is one.

    >>> words("\n\nHuman: How DO I tie it?")
    ['human', 'how', 'do', 'i', 'tie', 'it']
    >>> words("\u4f60\u597d, Bob")
    ['\u4f60', '\u597d', 'bob']
    """
    return WORD.findall(text.casefold())


def ngrams(tokens: list[str], n: int) -> list[str]:
    """Return every run of n words, joined by spaces; all words as one run if there are fewer than n.

    >>> ngrams(["how", "do", "i", "tie"], 3)
    ['how do i', 'do i tie']
    """
    return [" ".join(tokens[start : start + n]) for start in range(max(1, len(tokens) - n + 1))]


def is_blank(text: str) -> bool:
    r"""Return True if a text has no visible character.

    >>> is_blank(" \u200b\u3164\n"), is_blank("\u200b.")
    (True, False)
    """
    return len(text) <= MAX_BLANK and BLANK.fullmatch(text) is not None


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
