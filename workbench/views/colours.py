"""The one colour policy: one scale for scores, one for effects, eight hues for series.

Scores and probabilities use cividis, effects use red to blue with the middle at zero, pale as a light page or
grey on a dark one, series use the hues of Okabe and Ito; all three can be told apart with any colour vision.
"""

SEQUENTIAL = (
    "#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55",
    "#fee838",
)  # fmt: skip
DIVERGING = (
    "#b2182b", "#d6604d", "#f4a582", "#fddbc7", "#f7f7f7", "#d1e5f0", "#92c5de", "#4393c3", "#2166ac",
)  # fmt: skip
DIVERGING_ON_DARK = (
    "#ff9d87", "#e2705a", "#ad4a38", "#6e3229", "#333333", "#1f4563", "#2f709f", "#519fd3", "#9ed2ff",
)  # fmt: skip
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f7a00", "#7f7f7f")
_GRADIENT = ("#0072b2", "#8a8a8a", "#d55e00")
"""For many series in order; every part of it shows on light and on dark pages."""


def scale(diverging: bool, dark: bool = False) -> tuple[str, ...]:
    """The colours from the lowest value to the highest, evenly spaced; on a dark page zero is dark too."""
    if not diverging:
        return SEQUENTIAL
    return DIVERGING_ON_DARK if dark else DIVERGING


def series_colours(count: int) -> list[str]:
    """A colour for each of some series: separate hues for a few, a gradient for more than there are hues."""
    if count <= len(SERIES):
        return list(SERIES[:count])
    return [_mix(_GRADIENT, number / (count - 1)) for number in range(count)]


def colour_of(value: float, bounds: tuple[float, float], diverging: bool, dark: bool = False) -> str:
    """The colour of a value between two bounds; values outside take the nearest bound's."""
    low, high = bounds
    return _mix(scale(diverging, dark), min(max((value - low) / (high - low), 0.0), 1.0))


def _mix(stops: tuple[str, ...], place: float) -> str:
    """The colour at a place between 0 and 1 along evenly spaced stops."""
    along = place * (len(stops) - 1)
    index = min(int(along), len(stops) - 2)
    ends = zip(_channels(stops[index]), _channels(stops[index + 1]), strict=True)
    return "#{:02x}{:02x}{:02x}".format(*(round(first + (second - first) * (along - index)) for first, second in ends))


def ink_on(colour: str) -> str:
    """Black or white, whichever can be read on this background."""
    red, green, blue = _channels(colour)
    return "#111111" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
