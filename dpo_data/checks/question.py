"""What a response answers."""

from dpo_data.records import ConversationalPair, PreferencePair

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
