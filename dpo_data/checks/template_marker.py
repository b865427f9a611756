"""A marker of a chat template, as text."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.records import FIELDS, PairTexts, PreferencePair, TextPair

#: Of ChatML, Llama 2, 3 and 4, Gemma, Zephyr, Phi, Command R, DeepSeek, GPT-OSS, and HelpSteer2's <extra_id_1>. Tokens
#: that end a whole sequence belong to `eos_in_response`.
MARKER = re.compile(
    r"<\|(?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|eom_id|begin_of_text|header_start|header_end|eot"
    r"|system|user|assistant|tool|start|end|message|channel|return|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN)\|>"
    r"|</?s>\s*\[INST\]|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<extra_id_\d+>|<\uff5c(?:User|Assistant)\uff5c>"
)
#: Every marker begins with one of them.
FIRST_CHARACTERS = "<[#"


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a field contains a marker of a chat template.

    >>> find(CHECK.example, CHECK.example.texts).message
    'prompt contains the chat template marker "[INST]".'
    """
    # Single characters first: few texts have either, and searching for one costs next to nothing.
    prompt, chosen, rejected = texts
    if not ("<" in prompt or "<" in chosen or "<" in rejected or "[" in prompt or "[" in chosen or "[" in rejected):
        return None
    for field, text in zip(FIELDS, texts, strict=True):
        if match := MARKER.search(text):
            return Finding(field, f'{field} contains the chat template marker "{match[0]}".')
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a character with which markers begin."""
    found = columns.prompt.none()
    for field in columns.fields:
        found |= field.contains(*FIRST_CHARACTERS)
    return found


CHECK = RowCheck(
    code="template_marker",
    severity="warning",
    summary="a text contains a marker of a chat template",
    hint="The text was already rendered with a chat template: convert the original, or split it into messages.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="[INST] Who are you? [/INST]", chosen="A robot.", rejected="Go away."),
)
