"""Traces of a damaged encoding."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import FIELDS, PairTexts, PreferencePair

LOST = "\ufffd"
CONTROL_BYTE = b"\xc2"  # starts U+0080 to U+00BF
CONTROL_BYTES = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which field holds a replacement character or a control character other than tab and line ends.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Hi", chosen="It\ufffds me", rejected="No")
    >>> find(pair, pair.texts).message
    'chosen holds a replacement character (U+FFFD): bytes were lost in decoding.'
    >>> pair = TextPair(prompt="Hi\x00", chosen="Yes", rejected="No")
    >>> find(pair, pair.texts).message
    'prompt holds a control character (U+0000).'
    """
    # Deleting by table runs at memory speed; the expression alone would cost more than all other checks.
    text = "".join(texts)
    encoded = text.encode()
    suspicious = not text.isascii() and (LOST in text or CONTROL_BYTE in encoded)
    if not suspicious and len(encoded.translate(None, CONTROL_BYTES)) == len(encoded):
        return None
    for field, text in zip(FIELDS, texts, strict=True):
        if LOST in text:
            return Finding(field, f"{field} holds a replacement character (U+FFFD): bytes were lost in decoding.")
        if control := CONTROL.search(text):
            return Finding(field, f"{field} holds a control character (U+{ord(control[0]):04X}).")
    return None


BAD_CHARACTERS = RowCheck(
    code="bad_characters",
    severity="warning",
    summary="a replacement or control character",
    hint="The text was decoded wrongly somewhere before: convert the original again if you have it.",
    find=find,
)
