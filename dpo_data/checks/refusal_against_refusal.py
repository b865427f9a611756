"""A pair of two refusals."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import PairTexts, PreferencePair, TextPair

#: Characters at the start of a response that are searched for a refusal.
OPENING = 120
#: At least one of them occurs in every opening that `REFUSAL` matches.
NEEDLES = ("not", "n't", "n\u2019t", "orry", "unable", "NOT", "N'T", "ORRY", "efus", "eclin", "fraid")
SERVICE = (
    "help|assist|do|provide|give|tell|answer|share|advi[sc]e|support|discuss|comply|write|create|generate|offer|judge"
    "|recommend|engage|fulfil|fulfill|continue|encourage|participate|say|talk|speak|condone|allow|respond"
)
REFUSAL = re.compile(
    rf"\b(?:I|we)(?:['\u2019]m| am|['\u2019]re| are)? (?:\w+ )?"
    rf"(?:can['\u2019]?t|cannot|can not|won['\u2019]?t|will not|unable to|not (?:able|allowed|going|willing) to"
    r"|refuse to|decline to|(?:have to|must) decline"
    rf"|do(?:n['\u2019]t| not) (?:think I can|want to|feel comfortable))"
    rf"(?: (?:\w+ ){{0,1}}?(?:{SERVICE})(?:ing)?\b|\s*(?:[.,;!]|$))"
    r"|^\W*sorry,? (?:but )?(?:no\b|(?:that|this)(?: is|['\u2019]s) (?:beyond|out of|against|not something))"
    r"|\bas an? (?:AI|language model)\b.{0,60}\b(?:not|n['\u2019]t|unable)",
    re.IGNORECASE,
)


def is_refusal(response: str) -> bool:
    """Return True if a response opens with a refusal; English only.

    >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("Sure. You can't go wrong with two eggs.")
    (True, False)
    """
    opening = response[:OPENING]
    return any(map(opening.__contains__, NEEDLES)) and REFUSAL.search(opening) is not None


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if both responses open with a refusal.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen and rejected both open with a refusal.'
    """
    _, chosen, rejected = texts
    if is_refusal(chosen) and is_refusal(rejected):
        return Finding("rejected", "chosen and rejected both open with a refusal.")
    return None


CHECK = RowCheck(
    code="refusal_against_refusal",
    severity="warning",
    summary="both responses are refusals",
    hint="Such a pair teaches how to refuse, not when to refuse: check that there are only a few of them.",
    find=find,
    example=TextPair(prompt="Write my essay.", chosen="I'm sorry, I can't.", rejected="I won't do that."),
)
