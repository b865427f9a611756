"""A prompt without a word in it."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.dialogue import TURN_START
from dpo_data.records import PairTexts, PreferencePair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Whether nothing but white space and role markers is in the prompt.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="\n\nHuman: \n\nAssistant:", chosen=" a", rejected=" b")
    >>> find(pair, pair.texts).message
    'prompt is empty.'
    """
    prompt = texts[0]
    # A transcript of role markers alone is short: longer prompts need no second look.
    if not prompt or prompt.isspace() or (len(prompt) < 80 and not TURN_START.sub("", prompt).strip()):
        return Finding("prompt", "prompt is empty.")
    return None


EMPTY_PROMPT = RowCheck(
    code="empty_prompt",
    severity="error",
    summary="the prompt is empty or white space",
    hint="Without a prompt nothing is being answered: leave the row out, or repair it in the raw file.",
    find=find,
)
