"""Characters that a wrong encoding leaves behind."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.records import FIELDS, PairTexts, PreferencePair, TextPair

REPLACEMENT = "\ufffd"
CONTROL_BYTE = b"\xc2"  # starts U+0080 to U+00BF
CONTROL_BYTES = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Return a finding if a field contains a replacement character, or a control character except tab, LF and CR.

    >>> find(CHECK.example, CHECK.example.texts).message
    'chosen contains a replacement character (U+FFFD): bytes were lost in decoding.'
    >>> pair = TextPair(prompt="Hi\x00", chosen="Yes", rejected="No")
    >>> find(pair, pair.texts).message
    'prompt contains a control character (U+0000).'
    """
    # Deleting characters by a table runs at memory speed; the regular expression alone would cost more than all other
    # checks together.
    text = "".join(texts)
    encoded = text.encode()
    suspicious = not text.isascii() and (REPLACEMENT in text or CONTROL_BYTE in encoded)
    if not suspicious and len(encoded.translate(None, CONTROL_BYTES)) == len(encoded):
        return None
    for field, text in zip(FIELDS, texts, strict=True):
        if REPLACEMENT in text:
            return Finding(field, f"{field} contains a replacement character (U+FFFD): bytes were lost in decoding.")
        if control := CONTROL.search(text):
            return Finding(field, f"{field} contains a control character (U+{ord(control[0]):04X}).")
    return None


def suspects(columns: TextColumns) -> Suspects:
    """Return the rows with a replacement or control character."""
    found = columns.prompt.none()
    for field in columns.fields:
        found |= field.contains(REPLACEMENT) | field.has_control(CONTROL_BYTES)
    return found


CHECK = RowCheck(
    code="bad_characters",
    severity="warning",
    summary="a text contains a replacement or control character",
    hint="The text was decoded with the wrong encoding at some point: convert the original again if you have it.",
    find=find,
    suspects=suspects,
    example=TextPair(prompt="Who is it?", chosen="It\ufffds me.", rejected="Go away."),
)
