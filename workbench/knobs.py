"""Knobs: the settings of an analysis, of a closed set of types, read from text and checked.

The same knob is a keyword in Python, an option on the command line and a widget in the dashboard.
Its text form is what the command line reads and what `show` writes: `show` then `parse` gives the
value back.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real

from workbench.words import Site

Value = bool | int | float | str | tuple[int, ...] | list[Site]
Plain = bool | int | float | str | list[int | str]
"""A value as JSON knows it."""

_TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_RANGE = re.compile(r"^(?P<first>-?\d+)(?:-(?P<last>\d+))?$")


@dataclass(frozen=True)
class Knob:
    """One setting of an analysis.

    Attributes:
        name: the keyword.
        type: one of `TYPES`.
        default: the value when nothing is said.
        choices: the allowed values of a `Literal`, else empty.
        doc: its line in the docstring: meaning, unit, useful range.
    """

    name: str
    type: str
    default: Value
    choices: tuple[int | str, ...] = ()
    doc: str = ""

    def parse(self, given: object) -> Value:
        """The typed value of a text, or of a value that has the type already.

        Raises:
            ValueError: says what the knob allows and what was found.

        Example:
            >>> Knob("layers", "tuple[int, ...]", ()).parse("0-2,7")
            (0, 1, 2, 7)
        """
        if self.type == "Literal":
            chosen = [choice for choice in self.choices if given in (choice, show(choice))]
            if chosen and not isinstance(given, bool | float):
                return chosen[0]
            raise ValueError(f"knob {self.name} takes {self.allowed}, found {given!r}")
        try:
            return _READERS[self.type](given)
        except ValueError as error:
            why = f": {error}" if self.type == "list[Site]" else ""
            raise ValueError(f"knob {self.name} takes {self.allowed}, found {given!r}{why}") from error

    @property
    def allowed(self) -> str:
        """What may be written, in words."""
        if self.type == "Literal":
            return " or ".join(show(choice) for choice in self.choices)
        return _ALLOWED[self.type]


def show(value: Value | Plain) -> str:
    """The text form of a value, or of its plain form; `Knob.parse` reads it back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)


def plain(value: Value) -> Plain:
    """The value as JSON knows it: sites become their text form, tuples become lists."""
    if isinstance(value, list | tuple):
        return [str(item) if isinstance(item, Site) else item for item in value]
    return value


def parse_knobs(owner: str, knobs: Iterable[Knob], given: Mapping[str, object]) -> dict[str, Value]:
    """The typed value of every knob: what was given, else its default.

    Args:
        owner: whose knobs they are, for the error message.
        knobs: the knobs that exist.
        given: texts or typed values by name; dashes in a name count as underscores.

    Raises:
        ValueError: lists everything that is wrong at once.
    """
    known = {knob.name: knob for knob in knobs}
    values = {name: knob.default for name, knob in known.items()}
    problems = []
    for asked, value in given.items():
        name = asked.replace("-", "_")
        if name not in known:
            problems.append(f"{owner} has no knob {asked!r}: {did_you_mean(name, known)}")
            continue
        try:
            values[name] = known[name].parse(value)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return values


def did_you_mean(asked: str, names: Iterable[str]) -> str:
    """A hint for an error message: the nearest names, then all that are allowed."""
    allowed = list(names)
    near = get_close_matches(asked, allowed, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}allowed are {', '.join(allowed)}" if allowed else "there are none"


def _whole_number(given: object) -> int:
    if isinstance(given, bool) or not isinstance(given, str | Integral):
        raise ValueError
    return int(given)


def _number(given: object) -> float:
    if isinstance(given, bool) or not isinstance(given, str | Real):
        raise ValueError
    number = float(given)
    if not math.isfinite(number):
        raise ValueError
    return number


def _truth(given: object) -> bool:
    if isinstance(given, bool):
        return given
    if not isinstance(given, str) or given.lower() not in _TRUTH:
        raise ValueError
    return _TRUTH[given.lower()]


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError
    return given


def _whole_numbers(given: object) -> tuple[int, ...]:
    if not isinstance(given, str):
        return tuple(_whole_number(item) for item in _items(given))
    numbers: list[int] = []
    for part in _items(given):
        match = _RANGE.match(str(part))
        if match is None:
            raise ValueError
        first = int(match["first"])
        numbers += range(first, int(match["last"]) + 1) if match["last"] else [first]
    return tuple(numbers)


def _sites(given: object) -> list[Site]:
    return [item if isinstance(item, Site) else Site.parse(str(item)) for item in _items(given)]


def _items(given: object) -> list[object]:
    """The parts of a text between commas or spaces, or the members of a collection."""
    if isinstance(given, str):
        return [part for part in re.split(r"[,\s]+", given) if part]
    if not isinstance(given, Iterable):
        raise ValueError
    return list(given)


_READERS: dict[str, Callable[[object], Value]] = {
    "int": _whole_number,
    "float": _number,
    "bool": _truth,
    "str": _text,
    "tuple[int, ...]": _whole_numbers,
    "list[Site]": _sites,
}

_ALLOWED = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "str": "a text",
    "tuple[int, ...]": "whole numbers such as 0,3,8-11",
    "list[Site]": "sites such as L9.resid_post,L3.H2.z@5",
}

TYPES = (*_READERS, "Literal")
"""The closed set of knob types."""
