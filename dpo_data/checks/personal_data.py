"""Personal data in a text: detection and redaction of e-mail addresses, phone, card and account numbers, and keys."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from dpo_data.checks.check import Finding, RowCheck
from dpo_data.checks.phone_numbers import phone_numbers
from dpo_data.errors import argument, require_packages
from dpo_data.records import FIELDS, Content, Message, PairTexts, PreferencePair, TextPair


class Kind(NamedTuple):
    """One kind of personal data.

    Attributes:
        pattern: matches it.
        needles: strings of which every match contains at least one.
        is_valid: returns True if a match is indeed personal data.
    """

    pattern: re.Pattern[str]
    needles: tuple[str, ...]
    is_valid: Callable[[str], bool]


def has_luhn_digit(number: str) -> bool:
    """Return True if the last digit is the check digit of the others, as on every payment card (ISO/IEC 7812-1).

    >>> has_luhn_digit("4111 1111 1111 1111"), has_luhn_digit("4111 1111 1111 1112")
    (True, False)
    """
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def has_iban_digits(account: str) -> bool:
    """Return True if digits 3 and 4 are the check digits of an international bank account number (ISO 13616).

    >>> has_iban_digits("DE89 3704 0044 0532 0130 00"), has_iban_digits("DE88 3704 0044 0532 0130 00")
    (True, False)
    """
    characters = account.replace(" ", "")
    return int("".join(str(int(character, 36)) for character in characters[4:] + characters[:4])) % 97 == 1


#: Last labels of what looks like an address: names of files and of hosts in a local network.
_NO_DOMAINS = (
    "css gif go gz html ico internal java jpeg jpg js json jsx lan less local localhost md mjs png py rb rs scss "
    "sh svg toml ts tsx txt webp yaml yml zip"
)
NO_DOMAINS = frozenset(_NO_DOMAINS.split())


def _is_address(match: str) -> bool:
    """Return False for a git address such as git@github.com, and for a file such as logo@2x.png."""
    name, _, domain = match.partition("@")
    return name != "git" and domain.rpartition(".")[2].lower() not in NO_DOMAINS


def _is_phone(match: str) -> bool:
    return 8 <= sum(map(str.isdigit, match)) <= 15


def _always(match: str) -> bool:
    return True


#: An escape of JSON.
ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\[bfnrt]")
#: Packages that find phone numbers.
LIBRARIES = ("phonenumbers", "py3langid")
DIGITS = tuple("0123456789")
#: In the order in which they are replaced: text that one kind has replaced is not searched for the next.
KINDS: dict[str, Kind] = {
    "key": Kind(
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:[\s\S]*?-----END (?:[A-Z]+ )*PRIVATE KEY-----)?"
            r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[0-9A-Za-z]{36,}|\bgithub_pat_\w{50,}|\bglpat-[\w-]{20,}"
            r"|\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}|\bSG\.[\w-]{16,32}\.[\w-]{16,64}|\bnpm_[0-9A-Za-z]{36}"
            r"|\bpypi-[\w-]{50,}|\bdop_v1_[0-9a-f]{64}|\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"
            r"|\bsk-(?:[a-z]+[0-9]*-)*(?=[A-Za-z_-]*[0-9])[0-9A-Za-z_-]{20,}|\bAIza[0-9A-Za-z_-]{35}"
            r"|\bxox[abeprs]-[0-9A-Za-z-]{10,}|\bxapp-[0-9A-Za-z-]{10,}|\bhooks\.slack\.com/services/[\w/]{20,}"
            r"|\bhf_[0-9A-Za-z]{30,}|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"
            r"|(?<=://)[^\s/:@\"']{1,64}:[^\s/@\"']{1,128}(?=@[\w.-])"
            r"|(?i:aws\w{0,20}(?:secret|key)\w{0,20}\W{1,6})[0-9A-Za-z/+]{40}(?![0-9A-Za-z/+=])",
            re.ASCII,
        ),
        (
            *(
                "PRIVATE KEY",
                "AKIA",
                "ASIA",
                "gh",
                "github_pat_",
                "glpat-",
                "k_live_",
                "k_test_",
                "SG.",
                "npm_",
                "pypi-",
                "dop_",
                "shp",
            ),
            *("sk-", "AIza", "xox", "xapp-", "slack", "hf_", "eyJ", "://", "aws", "AWS"),
        ),
        _always,
    ),
    "email": Kind(
        re.compile(
            r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,24}\b", re.ASCII
        ),
        ("@",),
        _is_address,
    ),
    "iban": Kind(
        re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b", re.ASCII),
        DIGITS,
        has_iban_digits,
    ),
    # Visa, Mastercard, American Express, Discover, JCB, Diners: 14 to 16 digits, with or without groups.
    "card": Kind(
        re.compile(
            r"(?<![\w.-])(?<![0-9][ ,;])(?:(?:[456][0-9]{3}|2[2-7][0-9]{2}|3[0-9]{3})"
            r"(?:[0-9]{10,12}|(?P<gap>[ -])[0-9]{4}(?P=gap)[0-9]{4}(?P=gap)[0-9]{4})"
            r"|3[0-9]{3}(?P<space>[ -])[0-9]{6}(?P=space)[0-9]{4,5})(?![\w-]|\.\d|[ ,;][0-9])",
            re.ASCII,
        ),
        DIGITS,
        has_luhn_digit,
    ),
    # "+" and a country code, or the North American groups of 3, 3 and 4 digits; `phone_numbers` finds other formats.
    "phone": Kind(
        re.compile(
            r"(?<![\w+.-])(?:\+[1-9][0-9]{0,2}(?:[ .-]?\(?[0-9]{1,4}\)?){2,5}(?<=[0-9])"
            r"|(?:1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4})(?![\w-]|\.\d)",
            re.ASCII,
        ),
        DIGITS,
        _is_phone,
    ),
}


def require_libraries() -> None:
    """Raise UsageError, with the command that installs them, if libraries of `redact` are missing."""
    require_packages(argument("redact", True), *LIBRARIES)


def redact(text: str) -> tuple[str, Counter[str]]:
    """Return a text with placeholders in place of personal data, and the number of replacements by kind.

    >>> redact("Write to jo@example.org or call +44 20 7946 0018.")
    ('Write to [EMAIL] or call [PHONE].', Counter({'email': 1, 'phone': 1}))
    """
    counts = Counter[str]()
    for name, kind in KINDS.items():

        def replacement(match: re.Match[str], name: str = name, kind: Kind = kind) -> str:
            if not kind.is_valid(match[0]):
                return match[0]
            counts[name] += 1
            return f"[{name.upper()}]"

        if any(map(text.__contains__, kind.needles)):
            text = kind.pattern.sub(replacement, text)
    for start, end in reversed(list(phone_numbers(text))):
        counts["phone"] += 1
        text = f"{text[:start]}[PHONE]{text[end:]}"
    return text, counts


def redact_value(value: Any) -> tuple[Any, Counter[str]]:
    """Return a JSON value with placeholders in its keys, texts and numbers, and the number of replacements by kind.

    >>> redact_value({"to": ["jo@example.org"], "card": 4111111111111111})
    ({'to': ['[EMAIL]'], 'card': '[CARD]'}, Counter({'email': 1, 'card': 1}))
    """
    counts = Counter[str]()

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {clean(key): clean(part) for key, part in value.items()}
        if isinstance(value, list):
            return [clean(part) for part in value]
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            text, replaced = redact(str(value))
            counts.update(replaced)
            return text if replaced else value
        return value

    return clean(value), counts


def redact_json(text: str) -> tuple[str, Counter[str]]:
    r"""Return JSON with placeholders, which stays JSON, and the number of replacements by kind.

    Text that is not JSON is searched as it is, and with its escapes resolved if they hide something.

    >>> redact_json('{"to": "\\njo\\u0040example.org"}')
    ('{"to": "\\n[EMAIL]"}', Counter({'email': 1}))
    """
    try:
        value, counts = redact_value(json.loads(text))
    except (ValueError, RecursionError):
        resolved = ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else " ", text)
        cleaned, counts = redact(resolved)
        return (cleaned if counts else text), counts
    separators = (", ", ": ") if '": ' in text or ", " in text else (",", ":")
    return (json.dumps(value, ensure_ascii=False, separators=separators) if counts else text), counts


def redact_pair(pair: PreferencePair) -> tuple[PreferencePair, Counter[str]]:
    """Return a pair with placeholders in texts, reasoning, names, tools and calls, and the replacements by kind."""
    counts = Counter[str]()

    def clean(text: str, *, is_json: bool = False) -> str:
        text, replaced = redact_json(text) if is_json else redact(text)
        counts.update(replaced)
        return text

    def clean_content(content: Content) -> Content:
        if isinstance(content, str):
            return clean(content)
        return [
            message.model_copy(
                update={name: clean(text, is_json=name == "tool_calls") for name, text in _texts(message)}
            )
            for message in content
        ]

    fields: dict[str, Any] = {field: clean_content(getattr(pair, field)) for field in FIELDS}
    if tools := getattr(pair, "tools", None):
        fields["tools"] = clean(tools, is_json=True)
    return (pair.model_copy(update=fields) if counts else pair), counts


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each field that may hold personal data."""
    for name in ("content", "tool_calls", "name", "reasoning_content", "thinking"):
        if text := getattr(message, name):
            yield name, text


def find(pair: PreferencePair, texts: PairTexts) -> Finding | None:
    """Return a finding if a field contains personal data; its message names only the kinds.

    >>> find(CHECK.example, CHECK.example.texts).message
    'rejected contains personal data: 1 email.'
    """
    for field, text in zip(FIELDS, texts, strict=True):
        if counts := redact(text)[1]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            return Finding(field, f"{field} contains personal data: {kinds}.")
    return None


CHECK = RowCheck(
    code="personal_data",
    severity="warning",
    summary="a text contains an e-mail address, a phone, card or account number, or a key",
    hint="Models can reproduce their training data. Convert with --redact to replace personal data by placeholders.",
    find=find,
    example=TextPair(prompt="Who are you?", chosen="Jo.", rejected="Jo, jo@example.org."),
)
