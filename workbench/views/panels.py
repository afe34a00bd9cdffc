"""Panels: what there is to draw, as numbers and texts.

`workbench.views.lookup` makes them from a view and its result; the drawing modules turn them into plotly
or SVG and decide nothing else. Texts in a panel are readable but not escaped.
"""

from dataclasses import dataclass

import numpy as np

Bounds = tuple[float, float]
"""The lowest and the highest value of a colour scale; the first is below the second."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A heatmap: `values[row, column]`, rows from the top unless `upward`."""

    title: str
    values: np.ndarray
    x_title: str
    y_title: str
    x_labels: tuple[str, ...]
    y_labels: tuple[str, ...]
    value_title: str
    bounds: Bounds
    diverging: bool
    upward: bool


@dataclass(frozen=True, eq=False)
class Curve:
    """One series of numbers over the horizontal axis, perhaps with limits below and above."""

    name: str
    values: np.ndarray
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves or groups of bars over one labelled axis."""

    title: str
    curves: tuple[Curve, ...]
    x_title: str
    x_labels: tuple[str, ...]
    y_title: str
    bars: bool
    log: bool


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points with a name each, perhaps coloured."""

    title: str
    x: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    x_title: str
    y_title: str
    values: np.ndarray | None
    value_title: str
    bounds: Bounds
    diverging: bool


@dataclass(frozen=True, eq=False)
class Strip:
    """Tokens with a number each."""

    title: str
    tokens: tuple[str, ...]
    values: np.ndarray
    axis: str
    value_title: str
    bounds: Bounds
    diverging: bool


@dataclass(frozen=True)
class Sheet:
    """Rows of texts under headings; `hidden` more rows are not shown. `numeric` marks columns of numbers."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    hidden: int


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes at places, perhaps coloured, and edges: indices of two nodes and a weight.

    Where nodes have `kinds`, or `columns` and `rows` (the names of where they stand), there is one for each node.
    `details` are further lines about each node; `shares` rank the edges.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    labels: tuple[str, ...]
    values: np.ndarray | None
    value_title: str
    bounds: Bounds
    diverging: bool
    edges: tuple[tuple[int, int, float], ...]
    x_title: str
    y_title: str
    ids: tuple[str, ...]
    shares: tuple[float, ...]
    kinds: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    details: tuple[tuple[str, ...], ...] = ()


Panel = Grid | Chart | Cloud | Strip | Sheet | Network
