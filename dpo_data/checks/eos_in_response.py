"""An end-of-sequence token, as text, in a response."""

import re
from dataclasses import replace

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Ends of sequences and of turns, at which generation stops, also escaped as in HTML: of Llama 2 and Mistral, GPT-2 and
#: NeoX, Llama 3, Gemma, ChatML, Phi, Command R, GPT-OSS, DeepSeek; `for_tokenizer` adds that of a tokenizer.
EOS = re.compile(
    r"(?:<|&lt;)(?:/s|eos|eod|eot|end_of_turn"
    r"|\|(?:end_?of_?(?:text|prompt|turn|turn_token|sentence)|eos|eod|eot|eot_id|eom_id|im_end|end|return)\|)(?:>|&gt;)"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|\[EOS\]",
    re.IGNORECASE,
)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response contains the text of a common end-of-sequence token.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen contains "</s>", which many tokenizers read as the end of the sequence.'
    """
    _, chosen, rejected = texts
    # Single characters first: few responses have one, and searching for one costs next to nothing.
    if not ("<" in chosen or "<" in rejected or "[" in chosen or "[" in rejected or "&" in chosen or "&" in rejected):
        return None
    for field, response in responses(texts):
        if ">" not in response and "&gt;" not in response and "EOS]" not in response.upper():
            continue
        for match in EOS.finditer(response):
            eos = match[0]
            if not _is_html_strikethrough(response, eos):
                message = f'{field} contains "{eos}", which many tokenizers read as the end of the sequence.'
                return Finding(field, message)
    return None


def _is_html_strikethrough(response: str, eos: str) -> bool:
    """Return True if every "</s>" closes an "<s>"; a text that starts with "<s>" has the tokens of a tokenizer."""
    opening = eos.replace("/", "")
    return (
        opening.lower() in ("<s>", "&lt;s&gt;")
        and response.count(opening) == response.count(eos)
        and not response.lstrip().startswith(opening)
    )


def for_tokenizer(check: RowCheck, eos: str) -> RowCheck:
    """Return the check extended by the end-of-sequence token of a tokenizer.

    >>> pair = TextPair(prompt="Hi", chosen="Yes", rejected="No[SEP]")
    >>> for_tokenizer(CHECK, "[SEP]").find(pair, pair.texts).message
    'rejected contains "[SEP]", which the tokenizer reads as the end of the sequence.'
    """

    def find_own(pair: PreferencePair, texts: PairTexts) -> Finding | None:
        for field, response in responses(texts):
            if eos in response:
                message = f'{field} contains "{eos}", which the tokenizer reads as the end of the sequence.'
                return Finding(field, message)
        return find(pair, texts)

    return replace(check, find=find_own)


CHECK = RowCheck(
    code="eos_in_response",
    severity="warning",
    summary="a response contains the text of an end-of-sequence token",
    hint="The tokenizer adds this token itself; another one teaches the model to stop early. Remove it from the text.",
    find=find,
    example=TextPair(prompt="Who are you?", chosen="A robot.</s>", rejected="Go away."),
)
