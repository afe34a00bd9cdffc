"""Clicks: a heatmap drawn with plotly whose cells can be clicked.

Streamlit hears clicks on points only, so an invisible point lies on every cell and shows the same text on hover.
"""

import numpy as np
import plotly.graph_objects as go  # noqa: TID251

from workbench.views.panels import Grid

MAX_CELLS = 2048
"""A grid with more cells is drawn without points, which would take seconds; `canvas` is for those."""
_MARK = "#e5484d"
_HOVER = "#57606a"


def add_points(figure: go.Figure, panel: Grid, marked: tuple[int | None, int | None]) -> None:
    """Lay a point on every cell of a heatmap, and a frame around the marked column, row or cell.

    Args:
        figure: what `figures.draw` made of the panel.
        panel: the heatmap.
        marked: column and row; None marks a whole row, column, or nothing.
    """
    rows, columns = panel.values.shape
    grid = figure.data[0]
    across, down = np.meshgrid(np.arange(columns), np.arange(rows))
    layer = go.Scatter(
        x=across.ravel().astype(np.int16),
        y=down.ravel().astype(np.int16),
        mode="markers",
        marker={"size": 14, "opacity": 0, "symbol": "square", "color": _HOVER},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=panel.values.ravel(),
        hovertemplate=grid.hovertemplate.replace("%{z:", "%{customdata:"),
        showlegend=False,
    )
    figure.add_trace(layer)
    grid.hoverinfo, grid.hovertemplate = "skip", None
    figure.update_layout(hovermode="closest", hoverdistance=-1)
    figure.update_xaxes(range=[-0.5, columns - 0.5], autorange=False)
    figure.update_yaxes(range=[-0.5, rows - 0.5] if panel.upward else [rows - 0.5, -0.5], autorange=False)
    if marked != (None, None):
        column, row = marked
        left, right = (-0.5, columns - 0.5) if column is None else (column - 0.5, column + 0.5)
        bottom, top = (-0.5, rows - 0.5) if row is None else (row - 0.5, row + 0.5)
        figure.add_shape(type="rect", x0=left, x1=right, y0=bottom, y1=top, line={"color": _MARK, "width": 2})
