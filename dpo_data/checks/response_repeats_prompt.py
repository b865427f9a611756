"""A response that starts by repeating the prompt."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import last_user_turn, responses
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Characters; good answers also repeat shorter prompts, such as "hello".
MIN_PROMPT = 16


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response starts with the last user turn of the prompt.

    >>> find(CHECK.example, CHECK.example.texts)
    Finding(field='rejected', message='rejected starts with the prompt.')
    """
    turn = last_user_turn(pair)
    if len(turn) < MIN_PROMPT:
        return None
    for field, response in responses(texts):
        if response.lstrip().startswith(turn):
            return Finding(field, f"{field} starts with the prompt.")
    return None


CHECK = RowCheck(
    code="response_repeats_prompt",
    severity="warning",
    summary="a response starts by repeating the prompt",
    hint="The response was probably stored together with its prompt: the model would learn to repeat prompts.",
    find=find,
    example=TextPair(prompt="Capital of Peru, please?", chosen="Lima.", rejected="Capital of Peru, please? Lima."),
)
