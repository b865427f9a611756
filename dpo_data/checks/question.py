"""What a response answers."""

from dpo_data.records import ConversationalPair, PreferencePair


def question(pair: PreferencePair) -> str:
    r"""The last turn of the user's, or the whole prompt where it is no dialogue.

    >>> from dpo_data.records import TextPair
    >>> question(TextPair(prompt="\n\nHuman: Hi\n\nAssistant: Hi\n\nHuman: Why?\n\nAssistant:", chosen="", rejected=""))
    'Why?'
    """
    if isinstance(pair, ConversationalPair):
        return pair.prompt[-1].content.strip()
    return pair.prompt.rpartition("\n\nHuman:")[2].removesuffix("\n\nAssistant:").strip()
