"""The text of an end-of-sequence token inside a response."""

from dataclasses import replace

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair

#: Of Llama 2 and Mistral, GPT-2 and NeoX, Llama 3, Gemma, DeepSeek; a tokenizer adds its own.
EOS_TEXTS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<eos>", "<|eos|>", "<\uff5cend\u2581of\u2581sentence\uff5c>")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which response holds the text of an end-of-sequence token.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="Hello</s>", rejected="No")
    >>> find(pair, pair.texts).message
    'chosen holds "</s>", which many tokenizers read as the end of the sequence.'
    """
    _, chosen, rejected = texts
    if "<" not in chosen and "<" not in rejected:
        return None
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        for eos in EOS_TEXTS:
            if eos in response and not _strikes_out(response, eos):
                message = f'{field} holds "{eos}", which many tokenizers read as the end of the sequence.'
                return Finding(field, message)
    return None


def _strikes_out(response: str, eos: str) -> bool:
    """Whether "</s>" is HTML here: it closes an "<s>" that does not open the text, as the one of a tokenizer does."""
    return eos == "</s>" and response.count("<s>") == response.count(eos) and not response.lstrip().startswith("<s>")


def for_tokenizer(check: RowCheck, eos: str) -> RowCheck:
    r"""The check, looking for the end-of-sequence token of one tokenizer too.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="Yes", rejected="No[SEP]")
    >>> for_tokenizer(EOS_IN_RESPONSE, "[SEP]").find(pair, pair.texts).message
    'rejected holds "[SEP]", which the tokenizer reads as the end of the sequence.'
    """

    def find_own(pair: PreferencePair, texts: PairTexts) -> Finding | None:
        _, chosen, rejected = texts
        for field, response in (("chosen", chosen), ("rejected", rejected)):
            if eos in response:
                return Finding(field, f'{field} holds "{eos}", which the tokenizer reads as the end of the sequence.')
        return find(pair, texts)

    return replace(check, find=find_own)


EOS_IN_RESPONSE = RowCheck(
    code="eos_in_response",
    severity="warning",
    summary="the text of an end-of-sequence token inside a response",
    hint="The tokenizer adds the end by itself; a second one teaches the model to stop early: take it out of the text.",
    find=find,
)
