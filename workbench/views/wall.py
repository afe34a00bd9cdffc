"""Wall: the pooled attention maps of many heads side by side, each of which can be clicked."""

import numpy as np
import plotly.graph_objects as go  # noqa: TID251

from workbench.named import Named
from workbench.views.figures import draw
from workbench.views.lookup import bounds_of
from workbench.views.panels import Grid

MAX_CELLS = 60_000
"""Cells of all maps together that a page can carry."""
_AXES = ("layer", "head", "query", "key")
_MARK = "#e5484d"
_MAP, _FRAME, _LEAST, _MOST = 64, 70, 240, 1100
"""Pixels of a map, around all maps, and of the lowest and the tallest wall."""


def fits(maps: Named) -> bool:
    """Whether the maps of all layers fit on one page."""
    return maps.values.size <= MAX_CELLS


def wall(maps: Named, layer: int | None, dark: bool, marked: tuple[int, int]) -> go.Figure:
    """Draw the maps of all heads of one layer, or of all layers (the first at the bottom), in a grid.

    Args:
        maps: axes layer, head, query, key; both of the last are cells of the prompt.
        layer: index of the layer; None for all.
        dark: colours for a dark page.
        marked: indices of the layer and the head to frame.

    Raises:
        ValueError: the array has other axes.
    """
    if maps.axes != _AXES:
        raise ValueError(f"a wall needs the axes {', '.join(_AXES)}, found {', '.join(maps.axes)}")
    places = _places(maps, layer)
    cells = maps.values.shape[-1]
    rows = [f"L{maps.names('layer')[row[0, 0]]}" for row in places]
    columns = [f"H{head}" for head in places[0, :, 1]]
    panel = Grid(
        title="",
        values=_tiled(maps.values[places[:, 0, 0]]),
        x_title="head" if layer is None else f"heads of layer {maps.names('layer')[layer]}",
        y_title="layer",
        x_labels=tuple(map(str, range(len(columns) * (cells + 1)))),
        y_labels=tuple(map(str, range(len(rows) * (cells + 1)))),
        value_title=maps.unit,
        bounds=bounds_of(maps.values, diverging=False, unit="probability"),
        diverging=False,
        upward=False,
    )
    figure = draw(panel, dark)
    figure.data[0].update(hoverinfo="skip", hovertemplate=None)
    middle = (cells - 1) / 2
    for axis, names in ((figure.layout.xaxis, columns), (figure.layout.yaxis, rows)):
        centres = [place * (cells + 1) + middle for place in range(len(names))]
        axis.update(tickmode="array", tickvals=centres, ticktext=names, labelalias=None, fixedrange=True)
    figure.add_trace(_points(maps, places, cells))
    _frame(figure, places, cells, marked)
    height = min(max(_FRAME + _MAP * len(rows), _LEAST), _MOST)
    figure.update_layout(title=None, height=height, hovermode="closest", hoverdistance=-1, margin={"t": 12})
    figure.update_xaxes(range=[-1, len(columns) * (cells + 1) - 1], autorange=False)
    figure.update_yaxes(range=[len(rows) * (cells + 1) - 1, -1], autorange=False)
    return figure


def _places(maps: Named, layer: int | None) -> np.ndarray:
    """For each row and column of the wall the indices of layer and head, the last layer on top."""
    layers = [layer] if layer is not None else [*range(maps.size("layer"))][::-1]
    return np.array([[(one, head) for head in range(maps.size("head"))] for one in layers])


def _tiled(maps: np.ndarray) -> np.ndarray:
    """Maps in rows and columns with a line of NaN between them."""
    down, across, cells, _ = maps.shape
    framed = np.full((down, across, cells + 1, cells + 1), np.nan, dtype=np.float32)
    framed[:, :, :cells, :cells] = maps
    return framed.transpose(0, 2, 1, 3).reshape(down * (cells + 1), across * (cells + 1))


def _points(maps: Named, places: np.ndarray, cells: int) -> go.Scatter:
    """An invisible point in the middle of each map: the nearest one is what a click means."""
    rows, columns, _ = places.shape
    down, across = np.indices((rows, columns)).reshape(2, -1)
    middle = (cells - 1) / 2
    names = [f"L{maps.names('layer')[layer]}.H{head}" for layer, head in places.reshape(-1, 2)]
    return go.Scatter(
        x=across * (cells + 1) + middle,
        y=down * (cells + 1) + middle,
        mode="markers",
        marker={"size": 14, "opacity": 0, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[[int(layer), int(head)] for layer, head in places.reshape(-1, 2)],
        text=names,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _frame(figure: go.Figure, places: np.ndarray, cells: int, marked: tuple[int, int]) -> None:
    """A frame around the chosen map, where it is on the wall."""
    for row, column in np.argwhere((places == marked).all(-1)).tolist():
        left, top = column * (cells + 1) - 0.75, row * (cells + 1) - 0.75
        ends = {"x0": left, "x1": left + cells + 0.5, "y0": top, "y1": top + cells + 0.5}
        figure.add_shape(type="rect", line={"color": _MARK, "width": 3}, **ends)
