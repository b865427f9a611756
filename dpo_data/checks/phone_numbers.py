"""Phone numbers in national formats, by the language of the text; needs phonenumbers and py3langid."""

import re
from collections.abc import Iterator

from dpo_data.checks.language_mismatch import language_of

#: Language -> countries whose national formats are looked for, those with the most speakers online first.
REGIONS = {
    "en": ("US", "GB", "AU", "IN", "IE"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH"),
    "es": ("ES", "MX", "AR", "CO", "CL"),
    "pt": ("BR", "PT"),
    "it": ("IT", "CH"),
    "nl": ("NL", "BE"),
    "pl": ("PL",),
    "tr": ("TR",),
    "uk": ("UA",),
    "ru": ("RU",),
    "zh": ("CN", "TW", "HK"),
    "ja": ("JP",),
    "ko": ("KR",),
    "hi": ("IN",),
    "id": ("ID",),
    "vi": ("VN",),
}
#: A number of seven to fifteen digits, as people group them.
CANDIDATE = re.compile(r"(?<![\w+@#.,:/=-])\(?[0-9](?:[ ./()\u00a0-]{0,2}[0-9]){6,14}(?![\w@#]|[-.:/][0-9])", re.ASCII)
#: A date, or an address of four numbers.
DATE = re.compile(
    r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]+)?\Z|(?:19|20)[0-9]{2}[-./ ](?:0?[1-9]|1[0-2])[-./ ]"
    r"|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2}"
)
#: Before a number that is a part of a sequence or a sum, or that a standard or a catalog gives.
BEFORE = re.compile(
    r"(?:[0-9][\s,;|]*|[-+*/=<>^~%$\u20ac\u00a3\u00a5#\u2116\u00d7\u00f7\u2212]\s*"
    r"|\b(?:ISBN|ISSN|DOI|RFC|ISO|EN|DIN|UPC|EAN|ID|No|Nr)\W*(?:1[03]\W*)?)\Z",
    re.IGNORECASE,
)
AFTER = re.compile(r"[\s,;|]*[0-9]|\s*[+*/=<>^%$\u20ac\u00a3\u00a5\u00d7\u00f7\u2212]|\s*(?:EUR|USD|km|kg)\b")
#: A number without spaces is a phone number if it starts like a mobile or a long-distance one.
UNGROUPED = re.compile(r"0[0-9]{8,11}|1[3-9][0-9]{9}|8[0-9]{10}")
#: Characters around a number that are compared with `BEFORE` and `AFTER`.
CONTEXT = 12


def phone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each phone number in a national format of the language of the text.

    >>> text = "Dienstags erreichen Sie unsere Praxis unter 030 23125000 oder im Internet."
    >>> [text[start:end] for start, end in phone_numbers(text)]
    ['030 23125000']
    >>> list(phone_numbers("Das Ergebnis der Rechnung ist 030 23125000 + 17, und das ist viel."))
    []
    """
    regions = None
    for match in CANDIDATE.finditer(text):
        number = match[0]
        grouped = not number.strip("()").isdigit()
        if (
            not (grouped or UNGROUPED.fullmatch(number.strip("()")))
            or DATE.match(number)
            or number.startswith(("978", "979"))
        ):
            continue
        start, end = match.span()
        if BEFORE.search(text[max(0, start - CONTEXT) : start]) or AFTER.match(text[end : end + CONTEXT]):
            continue
        if regions is None:
            regions = REGIONS.get(language_of(text) or "", ())
        if any(_is_valid(number, region) for region in regions):
            yield start, end


def _is_valid(number: str, region: str) -> bool:
    """Return True if a number is one of a country and its groups are those of its format."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    matches = PhoneNumberMatcher(number, region, leniency=Leniency.VALID)
    return any(len(match.raw_string) >= len(number.strip("() ")) - 1 for match in matches)
