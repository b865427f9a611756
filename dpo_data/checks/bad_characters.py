"""Traces of a damaged encoding."""

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import FIELDS, PreferencePair

CONTROL_BYTES = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
C1_CONTROLS = dict.fromkeys(range(0x80, 0xA0))


def find(pair: PreferencePair) -> Finding | None:
    r"""Which field holds a replacement character or a control character other than tab and line ends.

    >>> from dpo_data.records import TextPair
    >>> find(TextPair(prompt="Hi", chosen="It\ufffds me", rejected="No")).message
    'chosen holds a replacement character (U+FFFD): bytes were lost in decoding.'
    >>> find(TextPair(prompt="Hi\x00", chosen="Yes", rejected="No")).message
    'prompt holds a control character (U+0000).'
    """
    for field, text in zip(FIELDS, pair.texts, strict=True):
        if "\ufffd" in text:
            return Finding(field, f"{field} holds a replacement character (U+FFFD): bytes were lost in decoding.")
        # Deleting by table runs at memory speed; a character class would cost more than the rest of the checks.
        encoded = text.encode()
        if len(encoded.translate(None, CONTROL_BYTES)) != len(encoded) or (
            not text.isascii() and len(text.translate(C1_CONTROLS)) != len(text)
        ):
            control = next(c for c in text if ord(c) in C1_CONTROLS or (c.isascii() and ord(c) in CONTROL_BYTES))
            return Finding(field, f"{field} holds a control character (U+{ord(control):04X}).")
    return None


BAD_CHARACTERS = RowCheck(
    code="bad_characters",
    severity="warning",
    summary="a replacement or control character",
    hint="The text was decoded wrongly somewhere before: convert the original again if you have it.",
    find=find,
)
