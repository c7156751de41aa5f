"""How numbers are written in every report: no zero before the point, a true minus sign, a dash for what is missing."""

import math


def number(value: float | None, digits: int = 3) -> str:
    """`.123`, `−.5`, `12.3`, or `–` for None, NaN and infinity.

    Args:
        value: what to write.
        digits: after the point.
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{abs(value):.{digits}f}"
    text = text[1:] if text.startswith("0.") else text
    return ("−" if value < 0 and float(text) else "") + text


def signed(value: float | None, digits: int = 3) -> str:
    """As [`number`], with a plus sign before what is above 0."""
    text = number(value, digits)
    return f"+{text}" if text != "–" and value > 0 and float(text) else text


def count(value: int | None) -> str:
    """`12,345`, or `–` for None."""
    return "–" if value is None else f"{value:,}"
