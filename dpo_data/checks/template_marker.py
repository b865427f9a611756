"""A marker of a chat template, as text."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.records import FIELDS, PairTexts, PreferencePair, TextPair

#: Of ChatML, Llama 2, 3 and 4, Gemma, Zephyr, Phi, Command R, DeepSeek, Mistral, GPT-OSS, Alpaca, of reasoning models
#: and tool calls, and HelpSteer2's <extra_id_1>. Tokens that only end a whole sequence belong to `eos_in_response`.
MARKER = re.compile(
    r"<\|(?:im_(?:start|end|sep)|(?:start|end)_header_id|header_(?:start|end)|e[om]t_id|eom_id|eot|(?:begin|start)_?of_?text"
    r"|(?:start|end)_of_(?:turn|role)|role_(?:start|end)|[A-Z_]{2,30}_TOKEN|reserved_(?:special_token_)?\d+|python_tag"
    r"|(?i:system|user|assistant|human|prompter|observation|tool|tool_\w{1,20})|start|end|message|channel|constrain|return|call"
    r"|fim_\w{1,20}|(?:vision|image|video|object_ref|box)_\w{1,20}|pad|sep|finetune_right_pad_id)\|>"
    r"|</?s>\s*\[INST\]|\[/?INST\]|<</?SYS>>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT)\]"
    r"|<(?:start|end)_of_turn>|<(?:extra_id_|unused|reserved_)\d+>|<fim_(?:prefix|middle|suffix)>|<(?:bos|pad|unk)>"
    r"|</?tool_(?:call|response)s?>|<\uff5c(?!end)[^\uff5c\n]{1,30}\uff5c>"
    r"|^[ \t]*</?think(?:ing)?>|</think(?:ing)?>(?=\s*\n)|^[ \t]*###[ ]?(?:Instruction|Response|Input):",
    re.MULTILINE,
)
#: At least one of them occurs in every text that `MARKER` matches.
NEEDLES = (
    *("|>", "INST]", "SYS>>", "_of_turn>", "<extra_id_", "<unused", "<reserved_", "<fim_", "<bos>", "<pad>", "<unk>"),
    *("tool_", "TOOL", "\uff5c>", "think", "SYSTEM_", "###"),
)
#: Every marker begins with one of them.
FIRST_CHARACTERS = "<[#"


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a field contains a marker of a chat template.

    >>> find(CHECK.example, CHECK.example.texts).message
    'prompt contains the chat template marker "[INST]".'
    """
    # Single characters first: few texts have one, and searching for one costs next to nothing.
    text = "".join(texts)
    if "<" not in text and "[" not in text and "#" not in text:
        return None
    if not any(map(text.__contains__, NEEDLES)):
        return None
    for field, text in zip(FIELDS, texts, strict=True):
        if match := MARKER.search(text):
            return Finding(field, f'{field} contains the chat template marker "{match[0].strip()}".')
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
