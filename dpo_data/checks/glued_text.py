"""A text prompt and a response that meet without white space."""

from dpo_data.boundary import meet_in_white_space
from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import WHITE_SPACE, Suspects, TextColumns
from dpo_data.checks.text import responses
from dpo_data.excerpts import beginning, ending
from dpo_data.records import PairTexts, PreferencePair, TextPair

SHOWN_CHARACTERS = 20


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a response of a text pair follows the prompt without white space.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen follows the prompt without white space: "… uld I keep my bread?Wrap it in a cloth.".'
    """
    prompt, chosen, rejected = texts
    # First characters first: they are nearly always enough.
    if (chosen[:1].isspace() and rejected[:1].isspace()) or not isinstance(pair, TextPair):
        return None
    for field, response in responses(texts):
        if not meet_in_white_space(prompt, response):
            seam = ending(prompt, SHOWN_CHARACTERS) + beginning(response, SHOWN_CHARACTERS)
            return Finding(field, f'{field} follows the prompt without white space: "{seam}".')
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with no ASCII white space at the end of the prompt, nor at the start of both responses."""
    chosen, rejected = (WHITE_SPACE[response.first_bytes(1)[:, 0]] for response in columns.responses)
    meet_in_space: Suspects = WHITE_SPACE[columns.prompt.last_byte()] | (chosen & rejected)
    return ~meet_in_space


CHECK = RowCheck(
    code="glued_text",
    severity="warning",
    summary="prompt and response meet without white space",
    hint="The model would read them as one word: convert with --form conversational, or separate them in the raw file.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="How should I keep my bread?", chosen="Wrap it in a cloth.", rejected=" Put it in water."),
)
