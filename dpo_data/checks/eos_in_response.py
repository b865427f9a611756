"""An end-of-sequence token, as text, in a response."""

import re
from dataclasses import replace
from functools import partial

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

_END = r"</s>|<(?:eos|eod)>|<\|(?:end_?of_?(?:text|prompt|sentence)|eos)\|>"
#: Ends of sequences, also escaped as in HTML: of Llama 2 and Mistral, GPT-2 and NeoX, Llama 3, Gemma, DeepSeek;
#: `for_tokenizer` adds that of a tokenizer.
EOS = re.compile(
    rf"{_END}|{_END.replace('<', '&lt;').replace('>', '&gt;')}|<\uff5cend\u2581of\u2581sentence\uff5c>|\[EOS\]",
    re.IGNORECASE,
)
#: Every end of a sequence begins with one of them.
FIRST_CHARACTERS = "<[&"
#: Ends of turns too, at which generation stops: of ChatML, Llama 3, Gemma, Phi, Command R, GPT-OSS.
EOS_OR_END_OF_TURN = re.compile(
    rf"{EOS.pattern}|<\|(?:im_end|eot|eot_id|eom_id|end|end_of_turn|end_of_turn_token|return)\|>|<(?:end_of_turn|eot)>",
    re.IGNORECASE,
)


def find(pair: PreferencePair, texts: PairTexts, ends: re.Pattern[str] = EOS) -> Finding | None:
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
        for match in ends.finditer(response):
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

    def find_own(pair: PreferencePair, texts: PairTexts, ends: re.Pattern[str] = EOS) -> Finding | None:
        for field, response in responses(texts):
            if eos in response:
                message = f'{field} contains "{eos}", which the tokenizer reads as the end of the sequence.'
                return Finding(field, message)
        return find(pair, texts, ends)

    return replace(check, find=find_own, suspects=None, find_deep=partial(find_own, ends=EOS_OR_END_OF_TURN))


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a response that has a character with which tokens begin."""
    return columns.chosen.contains(*FIRST_CHARACTERS) | columns.rejected.contains(*FIRST_CHARACTERS)


CHECK = RowCheck(
    code="eos_in_response",
    severity="warning",
    summary="a response contains the text of an end-of-sequence token",
    hint="The tokenizer adds this token itself; another one teaches the model to stop early. Remove it from the text.",
    find=find,
    suspects=suspects,
    find_deep=partial(find, ends=EOS_OR_END_OF_TURN),
    example=TextPair(prompt="Who are you?", chosen="A robot.</s>", rejected="Go away."),
)
