"""Plane: an SVG drawing with a horizontal and a vertical axis.

Lines and texts take the colour of the page's text, so one drawing suits light and dark pages.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from workbench.views.panels import Bounds

WIDTH = 720.0
"""Width of every drawing in its own units; the page scales it."""
LETTER = 6.4
"""Usual width of a letter at the size of the labels."""
_MAX_LETTERS = 18
_SLANT = 50.0
"""Degrees by which labels that do not fit are turned."""
_NARROW = 500.0
"""A drawing shrinks no further than this, so that its texts can be read."""


@dataclass(frozen=True)
class Plane:
    """A rectangle of the drawing and the numbers at its edges."""

    left: float
    top: float
    width: float
    height: float
    x: Bounds
    y: Bounds
    log: bool = False

    def across(self, value: float) -> float:
        """Where a number lies from left to right."""
        low, high = self.x
        return round(self.left + self.width * (value - low) / (high - low), 1)

    def down(self, value: float) -> float:
        """Where a number lies from top to bottom; NaN if a logarithm is asked of a number below zero."""
        low, high = self.y
        if self.log:
            if not value > 0:
                return math.nan
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return round(self.top + self.height * (high - value) / (high - low), 1)

    @property
    def bottom(self) -> float:
        """The lower edge of the rectangle."""
        return self.top + self.height

    def frame(self) -> str:
        """Horizontal lines at round numbers, with the numbers beside them."""
        parts = []
        for tick in ticks(self.y, self.log):
            y = self.down(tick)
            parts.append(f'<path d="M{self.left:g} {y:g}h{self.width:g}" stroke="currentColor" stroke-opacity=".15"/>')
            parts.append(text(self.left - 6, y + 4, f"{tick:g}", "end"))
        return "".join(parts)

    def numbers_below(self) -> str:
        """Round numbers along the horizontal axis."""
        return "".join(text(self.across(tick), self.bottom + 16, f"{tick:g}", "middle") for tick in ticks(self.x))

    def titles(self, x_title: str, y_title: str, room: float) -> str:
        """The titles of both axes: `room` below the rectangle, and upright at the left edge."""
        return titles(self.left + self.width / 2, self.bottom + room, self.top + self.height / 2, x_title, y_title)


def titles(across: float, below: float, middle: float, x_title: str, y_title: str) -> str:
    """Axis titles in bold: one below the drawing, one turned upright at its left edge."""
    bold = ' font-weight="600"'
    turned = f'{bold} transform="rotate(-90 12 {middle:g})"'
    return text(across, below + 20, x_title, "middle", bold) + text(12.0, middle, y_title, "middle", turned)


def labels_below(labels: tuple[str, ...], first: float, step: float, top: float) -> tuple[str, float]:
    """Labels along the horizontal axis and the height they take; slanted and thinned where it is narrow."""
    longest = label_room(labels)
    slanted = longest + LETTER > step and longest > 4 * LETTER
    every = math.ceil((14 if slanted else longest + LETTER) / max(step, 0.1))
    parts = []
    for index in range(0, len(labels), every):
        x, y = first + index * step, top + 10
        turn = f' transform="rotate(-{_SLANT:g} {x:.1f} {y:g})"' if slanted else ""
        parts.append(text(round(x, 1), y, fitted(labels[index]), "end" if slanted else "middle", turn))
    return "".join(parts), 16 + (longest * math.sin(math.radians(_SLANT)) if slanted else 0.0)


def label_room(labels: Iterable[str]) -> float:
    """How wide the longest label is."""
    return max((len(fitted(label)) for label in labels), default=0) * LETTER


def fitted(label: str) -> str:
    """A label cut to what an axis has room for."""
    return label if len(label) <= _MAX_LETTERS else label[: _MAX_LETTERS - 1] + "…"


def left_room(y_labels: Iterable[str], x_labels: Iterable[str]) -> float:
    """Room left of a drawing: for the vertical axis, and for the first label below if it is slanted."""
    return max(32 + label_room(y_labels), label_room(x_labels) * math.cos(math.radians(_SLANT)))


def ticks(bounds: Bounds, log: bool = False) -> list[float]:
    """Round numbers between the bounds: multiples of 1, 2 or 5, or of powers of ten.

    Example:
        >>> ticks((0.0, 1.0))
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    low, high = bounds
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        leading = (1, 2, 5) if len(powers) <= 3 else (1,)
        candidates = [float(f"{first}e{power}") for power in powers for first in leading]
        return [tick for tick in candidates if low <= tick <= high]
    rough = (high - low) / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{step * count:.12g}") for count in range(first, last + 1)]


def widened(values: Iterable[float], log: bool = False) -> Bounds:
    """Bounds a little beyond the values, so that nothing touches the edge."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(finite), max(finite)) if finite else (0.1, 1.0)
    if log:
        return low / 1.1, high * 1.1
    room = (high - low) * 0.04 or max(abs(high), 1.0) / 2
    return low - room, high + room


def text(x: float, y: float, content: str, anchor: str, more: str = "") -> str:
    """A text; `anchor` says whether x is its start, middle or end."""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{more}>{escape(content)}</text>'


def drawing(height: float, content: str, name: str, width: float = WIDTH) -> str:
    """The drawing as an SVG element that fills the page up to its own width, and scrolls on a narrow one."""
    look = f"width:100%;max-width:{width:g}px;min-width:{min(width, _NARROW):g}px;height:auto;display:block"
    return (
        f'<div style="overflow-x:auto"><svg viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(name)}" fill="currentColor" font-size="12" style="{look}">{content}</svg></div>'
    )
