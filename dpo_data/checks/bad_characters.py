"""Characters that a wrong encoding leaves behind."""

import re

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.columns import Suspects, TextColumns
from dpo_data.records import FIELDS, PairTexts, PreferencePair, TextPair

REPLACEMENT = "\ufffd"
#: Of a garbled line in messages.
SHOWN_CHARACTERS = 20
CONTROL_BYTE = b"\xc2"  # starts U+0080 to U+00BF
CONTROL_BYTES = bytes({*range(0x20), 0x7F} - set(b"\t\n\r"))
#: Characters that override the direction of text, private and tag characters, and code points that no character has.
UNUSUAL = re.compile(
    "[\u202d\u202e\u2066-\u2069\ue000-\uf8ff\ufdd0-\ufdef\ufffe\uffff]|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]"
)
#: Isolates are right in texts that mix Hebrew or Arabic with other scripts.
ISOLATES = "\u2066\u2067\u2068\u2069"
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")
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


def find_mojibake(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding also for text that was decoded with another encoding, and for unusual characters; needs ftfy.

    >>> pair = TextPair(prompt="Wer?", chosen="Die Lehrerin f\u00c3\u00bcr \u00c3\u2013kologie.", rejected="Niemand.")
    >>> find_mojibake(pair, pair.texts).message
    'chosen contains text in a wrong encoding: "f\u00c3\u00bcr" for "f\u00fcr".'
    """
    if finding := find(pair, texts):
        return finding
    for field, text in zip(FIELDS, texts, strict=True):
        if text.isascii():
            continue
        if (unusual := UNUSUAL.search(text)) and not (unusual[0] in ISOLATES and RIGHT_TO_LEFT.search(text)):
            return Finding(field, f"{field} contains an unusual character (U+{ord(unusual[0]):04X}).")
        if mojibake := _mojibake(text):
            return Finding(field, '{} contains text in a wrong encoding: "{}" for "{}".'.format(field, *mojibake))
    return None


def _mojibake(text: str) -> tuple[str, str] | None:
    """Return the first garbled word of a text and what it was, or None."""
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    for line in text.splitlines():
        # Only a line that looks wrong is decoded again: a correct one may decode to other text by chance.
        if not line.isascii() and is_bad(line) and (fixed := fix_encoding(line)) != line:
            for word, fixed_word in zip(line.split(), fixed.split(), strict=False):
                if word != fixed_word:
                    return word, fixed_word
            return line[:SHOWN_CHARACTERS], fixed[:SHOWN_CHARACTERS]
    return None


CHECK = RowCheck(
    code="bad_characters",
    severity="warning",
    summary="a text contains a replacement or control character",
    hint="The text was decoded with the wrong encoding at some point: convert the original again if you have it.",
    find=find,
    suspects=suspects,
    find_deep=find_mojibake,
    example=TextPair(prompt="Who is it?", chosen="It\ufffds me.", rejected="Go away."),
)
