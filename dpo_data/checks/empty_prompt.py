"""An empty prompt."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.text import is_blank
from dpo_data.dialogue import TURN_START
from dpo_data.records import PairTexts, PreferencePair, TextPair


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if the prompt consists of whitespace and role markers.

    >>> find(CHECK.example, CHECK.example.texts).message
    'prompt is empty.'
    """
    prompt = texts[0]
    # A transcript of nothing but role markers is short, so longer prompts need no second check.
    if not prompt or prompt.isspace() or (len(prompt) < 80 and not TURN_START.sub("", prompt).strip()):
        return Finding("prompt", "prompt is empty.")
    return None


def find_invisible(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Return a finding if the prompt consists of whitespace, role markers and invisible characters.

    >>> pair = TextPair(prompt="\u200b\n", chosen="Hi", rejected="No")
    >>> find_invisible(pair, pair.texts).message
    'prompt has only invisible characters.'
    """
    if is_blank(TURN_START.sub("", texts[0])):
        return Finding("prompt", "prompt has only invisible characters.")
    return None


CHECK = RowCheck(
    code="empty_prompt",
    severity="error",
    summary="the prompt is empty or only whitespace",
    hint="Without a prompt there is nothing to answer: remove the row, or fix it in the raw file.",
    find=find,
    find_deep=find_invisible,
    example=TextPair(prompt="\n\nHuman: \n\nAssistant:", chosen=" Hello.", rejected=" Go away."),
)
