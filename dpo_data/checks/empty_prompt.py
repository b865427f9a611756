"""An empty prompt."""

import numpy as np

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import WORD, Suspects, TextColumns
from dpo_data.checks.text import is_blank
from dpo_data.dialogue import HUMAN_START, TURN_START
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


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows whose prompt does not start with a letter or digit, or does not after a role marker."""
    first = columns.prompt.first_bytes(len(HUMAN_START) + 2)
    has_word = WORD[first[:, :2]].any(1)
    is_turn = (first[:, :-2] == np.frombuffer(HUMAN_START.encode(), np.uint8)).all(1)
    starts_with_word: Suspects = has_word | (is_turn & WORD[first[:, -2:]].any(1))
    return ~starts_with_word


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
    suspects=suspects,
    find_deep=find_invisible,
    example=TextPair(prompt="\n\nHuman: \n\nAssistant:", chosen=" Hello.", rejected=" Go away."),
)
