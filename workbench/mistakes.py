"""Telling the user's mistakes from our own: a mistake is answered with one sentence, a defect is loud."""

MISTAKES = (ValueError, KeyError, TypeError, OSError, ImportError)
"""What the library raises for a wrong name, number, file or missing extra."""


def sentence(error: BaseException) -> str | None:
    """The message of a user's mistake on one line, or None when the error is not one.

    Example:
        >>> sentence(KeyError("analysis 'lens' does not exist"))
        "analysis 'lens' does not exist"
    """
    if not isinstance(error, MISTAKES):
        return None
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__
