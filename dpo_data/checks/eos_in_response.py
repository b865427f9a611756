"""An end-of-sequence token, as text, in a response."""

from dataclasses import replace

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Of Llama 2 and Mistral, GPT-2 and NeoX, Llama 3, Gemma, DeepSeek; `for_tokenizer` adds that of a tokenizer.
EOS_TEXTS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|eos|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response contains the text of a common end-of-sequence token.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen contains "</s>", which many tokenizers read as the end of the sequence.'
    """
    _, chosen, rejected = texts
    if "<" not in chosen and "<" not in rejected:
        return None
    for field, response in responses(texts):
        for eos in EOS_TEXTS:
            if eos in response and not _is_html_strikethrough(response, eos):
                message = f'{field} contains "{eos}", which many tokenizers read as the end of the sequence.'
                return Finding(field, message)
    return None


def _is_html_strikethrough(response: str, eos: str) -> bool:
    """Return True if every "</s>" closes an "<s>"; a text that starts with "<s>" has the tokens of a tokenizer."""
    return eos == "</s>" and response.count("<s>") == response.count(eos) and not response.lstrip().startswith("<s>")


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

    return replace(check, find=find_own, suspects=None)


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a response that has the character with which all tokens begin."""
    return columns.chosen.contains("<") | columns.rejected.contains("<")


CHECK = RowCheck(
    code="eos_in_response",
    severity="warning",
    summary="a response contains the text of an end-of-sequence token",
    hint="The tokenizer adds this token itself; another one teaches the model to stop early. Remove it from the text.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who are you?", chosen="A robot.</s>", rejected="Go away."),
)
