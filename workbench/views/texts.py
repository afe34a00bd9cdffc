"""Texts in pictures: tokens that can be seen, numbers that can be read.

Tokens come from models and files and may hold anything. `visible` makes them readable, not safe:
whoever draws must still escape them.
"""

import math
import unicodedata

_BREAKS = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
# Characters that turn the direction of what follows; they would reorder the text around a token.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def readable(text: str) -> str:
    r"""A text in which nothing can hide or turn the reading order.

    Control characters (but line breaks and tabs), turning marks and lone surrogates are written as their
    code.

    Example:
        >>> readable("a\u202eb")
        'a\\u202eb'
    """
    return "".join(letter if letter in "\n\t" else _sign(letter) for letter in text)


def visible(text: str, limit: int = 32) -> str:
    r"""A token with its hidden characters shown, cut to `limit` characters.

    As `readable`, and spaces at the ends become ·, line breaks ⏎, tabs ⇥.

    Example:
        >>> visible(" the\n")
        '·the⏎'
    """
    inner = text.strip(" ")
    start = len(text) - len(text.lstrip(" ")) if inner else len(text)
    end = len(text) - len(inner) - start
    shown = "·" * start + "".join(_BREAKS.get(letter) or _sign(letter) for letter in inner) + "·" * end
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _sign(letter: str) -> str:
    if unicodedata.category(letter) in ("Cc", "Cs") or letter in _TURNING:
        return f"\\u{ord(letter):04x}"
    return letter


def number_text(value: float | int) -> str:
    """A number with four significant digits; "no value" for NaN.

    Example:
        >>> number_text(0.123456), number_text(12345678.0), number_text(3)
        ('0.1235', '1.235e+07', '3')
    """
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "no value"
    return f"{value:.4g}"


def cell_text(value: object) -> str:
    """The text of a table cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, list):
        return ", ".join(cell_text(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {cell_text(item)}" for key, item in value.items())
    return visible(str(value), limit=200)


def words_of(name: str) -> str:
    """The name of an array or column in words.

    Example:
        >>> words_of("retrieval_score")
        'retrieval score'
    """
    return readable(name.replace("_", " "))
