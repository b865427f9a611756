"""Control text of a chat template inside a field."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import FIELDS, PairTexts, PreferencePair

#: Of ChatML, Llama 2, 3 and 4, Gemma, Zephyr, Phi, Command R, DeepSeek, GPT-OSS, and HelpSteer2's <extra_id_1>. Texts
#: that end a whole sequence are `eos_in_response`'s.
MARKER = re.compile(
    r"<\|(?:im_start|im_end|im_sep|start_header_id|end_header_id|eot_id|eom_id|begin_of_text|header_start|header_end|eot"
    r"|system|user|assistant|tool|start|end|message|channel|return|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN)\|>"
    r"|</?s>\s*\[INST\]|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<extra_id_\d+>|<\uff5c(?:User|Assistant)\uff5c>"
)


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which field holds the marker of a chat template.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="[INST] Hi [/INST]", chosen="Hello", rejected="No")
    >>> find(pair, pair.texts).message
    'prompt holds the chat template marker "[INST]".'
    >>> pair = TextPair(prompt="Hi", chosen="Hello<|im_end|>", rejected="No")
    >>> find(pair, pair.texts).message
    'chosen holds the chat template marker "<|im_end|>".'
    """
    # Single characters first: most texts hold neither, and looking for one costs next to nothing.
    prompt, chosen, rejected = texts
    if not ("<" in prompt or "<" in chosen or "<" in rejected or "[" in prompt or "[" in chosen or "[" in rejected):
        return None
    for field, text in zip(FIELDS, texts, strict=True):
        if match := MARKER.search(text):
            return Finding(field, f'{field} holds the chat template marker "{match[0]}".')
    return None


TEMPLATE_MARKER = RowCheck(
    code="template_marker",
    severity="warning",
    summary="the marker of a chat template inside a text",
    hint="The text was rendered with a template before: convert what it was rendered from, or split it into messages.",
    find=find,
)
