"""Words, n-grams and the last user turn, as the checks see them."""

import re

from dpo_data.records import ConversationalPair, PreferencePair

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


HUMAN = "\n\nHuman:"


def question(pair: PreferencePair) -> str:
    r"""The last turn of the user's, or the whole prompt where it is no dialogue.

    >>> from dpo_data.records import TextPair
    >>> question(TextPair(prompt="\n\nHuman: Hi\n\nAssistant: Hi\n\nHuman: Why?\n\nAssistant:", chosen="", rejected=""))
    'Why?'
    """
    if isinstance(pair, ConversationalPair):
        return pair.prompt[-1].content.strip()
    start = pair.prompt.rfind(HUMAN) + len(HUMAN)
    text = pair.prompt[start:] if start >= len(HUMAN) else pair.prompt
    return text.removesuffix("\n\nAssistant:").strip()
