"""Numbers as the terminal and the pages write them."""


def number(value: float) -> str:
    """Return a number with three significant digits, thousands separators and a minus sign.

    >>> number(12345.6), number(0.12345), number(-3.0), number(2.50)
    ('12,346', '0.123', '−3', '2.5')
    """
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return text.replace("-", "−")
