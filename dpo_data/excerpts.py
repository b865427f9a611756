"""Excerpts of texts that are too long to show."""


def beginning(text: str, characters: int) -> str:
    """Return the first characters of a text, and a mark if there are more.

    >>> beginning("a long text", 6)
    'a long …'
    """
    return text if len(text) <= characters else f"{text[:characters]} …"


def ending(text: str, characters: int) -> str:
    """Return the last characters of a text, after a mark if there are more: a prompt ends with its question.

    >>> ending("a long text", 4)
    '… text'
    """
    return text if len(text) <= characters else f"… {text[-characters:]}"


def around(text: str, sought: str, characters: int) -> str | None:
    """Return the words around the first occurrence of a string, in any case, on one line; None if there is none.

    >>> around("one two three four five", "THREE", 4)
    '… o three f …'
    """
    start = text.lower().find(sought.lower())
    if start < 0:
        return None
    end = min(len(text), start + len(sought) + characters // 2)
    start = max(0, start - characters // 2)
    excerpt = one_line(text[start:end])
    return f"{'… ' if start else ''}{excerpt}{' …' if end < len(text) else ''}"


def one_line(text: str) -> str:
    """Return a text with every run of white space as one space."""
    return " ".join(text.split())
