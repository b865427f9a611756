"""Texts made safe to show and to record: control characters made visible, secrets in URLs left out."""

import re

#: Characters that act on a terminal or change the direction of text, apart from line breaks and tabs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: User and password of any URL, and the query and fragment of one of the web: signatures and tokens are there.
_USER = re.compile(r"(?<=://)[^\s/?#@'\"<>]*@")
_QUERY = re.compile(r"(https?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*?(?=[.,;:)]*(?:[\s'\"<>]|\Z))", re.IGNORECASE)


def visible(text: str) -> str:
    r"""Return a text whose control characters are written as escapes; line breaks and tabs are kept.

    >>> print(visible("a\x1b[2Jb\u202ec"))
    a\x1b[2Jb\u202ec
    """
    return _CONTROL.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def escaped_json(text: str) -> str:
    r"""Return JSON whose control characters are escaped as JSON has it, also those that JSON allows as they are.

    >>> print(escaped_json('"a\x7fb"'))
    "a\u007fb"
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_secrets(text: str) -> str:
    """Return a text whose URLs have no user, no password and, on the web, no query.

    >>> without_secrets("https://me:secret@host/a.jsonl?token=secret, or s3://key:secret@bucket/b")
    'https://host/a.jsonl, or s3://bucket/b'
    """
    return _QUERY.sub(r"\1", _USER.sub("", text)) if "://" in text else text
