"""A prompt without a word in it."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.dialogue import TURN_START
from dpo_data.records import PreferencePair


def find(pair: PreferencePair) -> Finding | None:
    r"""Whether nothing but white space and role markers is in the prompt.

    >>> from dpo_data.records import TextPair
    >>> find(TextPair(prompt="\n\nHuman: \n\nAssistant:", chosen=" a", rejected=" b")).message
    'prompt is empty.'
    """
    prompt = pair.texts[0]
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
