"""Thinning: what to draw of more numbers than a page can carry.

Heatmaps keep the most extreme value of each block, so that a single bright cell never disappears; curves
and clouds keep every second, third, ... point. The title of the picture says that it happened.
"""

import numpy as np

from workbench.views.panels import Curve

MAX_CELLS = 256
"""Cells of a heatmap along one axis; a longer axis is pooled, unless the heatmap is low."""
_LOW = 16_384
"""So many cells in all are drawn one by one, up to `_WIDEST` along an axis."""
_WIDEST = 1024
MAX_POINTS = 4096
"""Points of a curve or a cloud."""


def block_size(size: int, cells_in_all: int) -> int:
    """How many entries of an axis one cell of a heatmap stands for.

    Example:
        >>> block_size(500, 32 * 500), block_size(2000, 32 * 2000)
        (1, 8)
    """
    if size <= _WIDEST and cells_in_all <= _LOW:
        return 1
    return max(-(-size // MAX_CELLS), 1)


def pool(
    values: np.ndarray, labels: tuple[str, ...], axis: int, cells: int = MAX_CELLS
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shorten one axis of a grid to at most `cells` blocks.

    Each block keeps the value farthest from zero (NaN only where there is nothing else) and the label of
    its first entry.
    """
    size = values.shape[axis]
    if size <= cells:
        return values, labels
    block = -(-size // cells)
    starts = range(0, size, block)
    blocks = [values.take(range(start, min(start + block, size)), axis) for start in starts]
    return np.stack([_farthest(one, axis) for one in blocks], axis), tuple(labels[at] for at in starts)


def _farthest(values: np.ndarray, axis: int) -> np.ndarray:
    """Along one axis, the value farthest from zero."""
    distance = np.where(np.isnan(values), -1.0, np.abs(values))
    index = np.expand_dims(distance.argmax(axis=axis), axis)
    return np.take_along_axis(values, index, axis).squeeze(axis)


def stride(points: int) -> int:
    """Of how many points one is drawn."""
    return max(-(-points // MAX_POINTS), 1)


def thin(curve: Curve, step: int) -> Curve:
    """The curve with one of every `step` points."""
    limits = (None if part is None else part[::step] for part in (curve.lower, curve.upper))
    return Curve(curve.name, curve.values[::step], *limits)
