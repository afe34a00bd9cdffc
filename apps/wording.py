"""Foreign texts and plain numbers as words that a page can carry.

Streamlit reads Markdown in most of its texts. Model names, prompts and error messages may hold anything,
the address of a picture included, so they pass through `inert` first.
"""

import re

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def inert(text: str) -> str:
    r"""The text as Markdown that shows exactly this text, on one line.

    Example:
        >>> inert("see ![x](http://y)")
        'see \\!\\[x\\]\\(http\\:\\/\\/y\\)'
    """
    return _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> counted(1, "check"), counted(1200, "token")
        ('1 check', '1,200 tokens')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    """A length of time, rounded.

    Example:
        >>> duration(0.4), duration(75), duration(7300)
        ('under 1 s', 'about 1 min 15 s', 'about 2 h 1 min')
    """
    if seconds < 1:
        return "under 1 s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"about {hours} h {minutes} min"
    return f"about {minutes} min {rest} s" if minutes else f"about {rest} s"


def size(count: float) -> str:
    """An amount of memory.

    Example:
        >>> size(512), size(3.2e8), size(1.07e9)
        ('1 kB', '320 MB', '1.1 GB')
    """
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{max(count / 1e3, 1):.0f} kB"
