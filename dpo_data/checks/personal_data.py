"""E-mail addresses, telephone and card numbers, and keys in a text; and the text without them."""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.records import FIELDS, Content, PairTexts, PreferencePair


class Kind(NamedTuple):
    """One kind of personal data: what it looks like, what each text with it holds, and a last test."""

    pattern: re.Pattern[str]
    needles: tuple[str, ...]
    is_one: Callable[[str], bool]


def has_luhn_digit(number: str) -> bool:
    """Whether the last digit is the check digit of the others, as on every payment card (ISO/IEC 7812-1).

    >>> has_luhn_digit("4111 1111 1111 1111"), has_luhn_digit("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def _any(text: str) -> bool:
    return True


DIGITS = tuple("0123456789")
#: In the order in which they are looked for: what one has taken is gone for the next.
KINDS: dict[str, Kind] = {
    "key": Kind(
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[0-9A-Za-z]{36,}|\bgithub_pat_\w{50,}"
            r"|\bsk-(?:[a-z]+-)*[0-9A-Za-z_-]{20,}|\bAIza[0-9A-Za-z_-]{35}|\bxox[abprs]-[0-9A-Za-z-]{10,}"
            r"|\bhf_[0-9A-Za-z]{30,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
        ),
        ("PRIVATE KEY", "AKIA", "ASIA", "gh", "sk-", "AIza", "xox", "hf_", "eyJ"),
        _any,
    ),
    "email": Kind(
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b"),
        ("@",),
        _any,
    ),
    # Visa, Mastercard, American Express, Discover, JCB, Diners: 14 to 16 digits, in groups or not.
    "card": Kind(
        re.compile(r"(?<![\w.-])(?:3[0-9]{3}|[456][0-9]{3}|2[2-7][0-9]{2})(?:[ -]?[0-9]){10,12}(?![\w-]|\.\d)"),
        DIGITS,
        has_luhn_digit,
    ),
    # "+" and country code, or North America's groups of three, three and four. Nothing else is told from other numbers.
    "phone": Kind(
        re.compile(
            r"(?<![\w+.-])(?:\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,5}(?<=[0-9])"
            r"|(?:1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4})(?![\w-]|\.\d)"
        ),
        DIGITS,
        lambda number: 8 <= sum(map(str.isdigit, number)) <= 15,
    ),
}


def redact(text: str) -> tuple[str, Counter[str]]:
    """A text with a placeholder for each piece of personal data, and how many there were of each kind.

    >>> redact("Write to jo@example.org or call +44 20 7946 0018.")
    ('Write to [EMAIL] or call [PHONE].', Counter({'email': 1, 'phone': 1}))
    """
    counts = Counter[str]()
    for name, kind in KINDS.items():

        def replaced(match: re.Match[str], name: str = name, kind: Kind = kind) -> str:
            if not kind.is_one(match[0]):
                return match[0]
            counts[name] += 1
            return f"[{name.upper()}]"

        if any(map(text.__contains__, kind.needles)):
            text = kind.pattern.sub(replaced, text)
    return text, counts


def redact_pair(pair: PreferencePair) -> tuple[PreferencePair, Counter[str]]:
    """A pair with placeholders, calls of tools included, and how many there are of each kind."""
    counts = Counter[str]()

    def clean(text: str) -> str:
        text, found = redact(text)
        counts.update(found)
        return text

    def clean_content(content: Content) -> Content:
        if isinstance(content, str):
            return clean(content)
        return [
            message.model_copy(
                update={
                    "content": clean(message.content),
                    "tool_calls": message.tool_calls and clean(message.tool_calls),
                }
            )
            for message in content
        ]

    fields = {field: clean_content(getattr(pair, field)) for field in FIELDS}
    return (pair.model_copy(update=fields) if counts else pair), counts


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    r"""Which field holds personal data, and of which kinds; the message does not repeat it.

    >>> from dpo_data.records import TextPair
    >>> pair = TextPair(prompt="Who are you?", chosen="Jo.", rejected="Jo, jo@example.org.")
    >>> find(pair, pair.texts).message
    'rejected holds personal data: 1 email.'
    """
    for field, text in zip(FIELDS, texts, strict=True):
        if counts := redact(text)[1]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            return Finding(field, f"{field} holds personal data: {kinds}.")
    return None


PERSONAL_DATA = RowCheck(
    code="personal_data",
    severity="warning",
    summary="an e-mail address, telephone or card number, or a key",
    hint="A model can repeat what it was trained on. Convert with --redact to put placeholders in their place.",
    find=find,
)
