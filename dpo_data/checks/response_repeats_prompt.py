"""A response that says the prompt again."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import question
from dpo_data.records import PairTexts, PreferencePair

#: Characters; shorter prompts ("hello") are repeated by good answers too.
MIN_PROMPT = 16


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which response starts with the prompt, or with its last user turn.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Capital of Peru, please?", chosen="Lima", rejected="Capital of Peru, please? Lima")
    >>> find(pair, pair.texts)
    Finding(field='rejected', message='rejected starts with the prompt.')
    """
    asked = question(pair)
    if len(asked) < MIN_PROMPT:
        return None
    _, chosen, rejected = texts
    for field, response in (("chosen", chosen), ("rejected", rejected)):
        if response.lstrip().startswith(asked):
            return Finding(field, f"{field} starts with the prompt.")
    return None


RESPONSE_REPEATS_PROMPT = RowCheck(
    code="response_repeats_prompt",
    severity="warning",
    summary="a response starts by repeating the prompt",
    hint="Often a completion that was stored with its prompt: the model would learn to echo.",
    find=find,
)
