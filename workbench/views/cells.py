"""Cells: a heatmap of many cells as the options of an ECharts chart, whose cells can be clicked.

Plotly needs a point on each cell to hear a click, and thousands of them take seconds to draw; a canvas does not.
Every text is shown as it is: ECharts escapes what it inserts, and axis labels are no HTML.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.views.colours import scale
from workbench.views.panels import Grid

if TYPE_CHECKING:
    import pandas

_INK = {False: ("#1f2328", "#d8dee4"), True: ("#e6edf3", "#3d444d")}
_MARK = "#e5484d"
_ROW, _FRAME, _LEAST, _MOST = 14, 150, 320, 900
"""Pixels of a row, around all rows, and of the lowest and the tallest chart."""
_LETTER, _WIDEST = 7, 90
"""Pixels of a letter, and of the longest label."""


def canvas_height(panel: Grid) -> int:
    """The height of the chart in pixels."""
    return min(max(_FRAME + _ROW * len(panel.y_labels), _LEAST), _MOST)


def canvas_options(panel: Grid, dark: bool = False) -> dict[str, Any]:
    """The options of the chart; they do not depend on what is selected, so that a click draws nothing again.

    Args:
        panel: the heatmap; cell number `row * columns + column` is that of its values.
        dark: colours for a dark page.
    """
    ink, line = _INK[dark]
    low, high = panel.bounds
    words = {"color": ink, "fontFamily": "system-ui, sans-serif"}
    # a template is HTML, what it inserts is not
    x_title, y_title, value_title = map(_plain, (panel.x_title, panel.y_title, panel.value_title))
    hover = f"{x_title} {{@x}}<br>{y_title} {{@y}}<br>{value_title} {{@value}}"
    return {
        "animation": False,
        "textStyle": words,
        "grid": {"left": 32, "right": 120, "top": 16, "bottom": 32, "containLabel": True},
        "tooltip": {"formatter": hover, "confine": True},
        "xAxis": _axis(panel.x_title, panel.x_labels, ink, line, turn=90 if _letters(panel.x_labels) > 4 else 0),
        "yAxis": {**_axis(panel.y_title, panel.y_labels, ink, line), "inverse": not panel.upward},
        "visualMap": {
            "min": low,
            "max": high,
            "dimension": "value",
            "calculable": True,
            "inRange": {"color": list(scale(panel.diverging, dark))},
            "orient": "vertical",
            "right": 8,
            "top": "middle",
            "itemHeight": 160,
            "itemWidth": 14,
            "precision": 3,
            "text": [panel.value_title, ""],
            "textStyle": words,
        },
        "dataset": {"source": _source(panel)},
        "series": [
            {
                "id": "cells",
                "type": "heatmap",
                "encode": {"x": "x", "y": "y", "value": "value", "itemName": "cell"},
                "progressive": 0,
                "selectedMode": "single",
                "select": {"itemStyle": {"borderColor": _MARK, "borderWidth": 2}},
                "emphasis": {"itemStyle": {"borderColor": _MARK, "borderWidth": 1}},
            }
        ],
    }


def _axis(title: str, labels: tuple[str, ...], ink: str, line: str, turn: int = 0) -> dict[str, Any]:
    return {
        "type": "category",
        "data": _names(labels),
        "name": title,
        "nameLocation": "middle",
        "nameTextStyle": {"color": ink, "fontSize": 13},
        "nameGap": 20 + min(_letters(labels) * _LETTER, _WIDEST),
        "axisLabel": {"color": ink, "hideOverlap": True, "width": _WIDEST, "overflow": "truncate", "rotate": turn},
        "axisLine": {"lineStyle": {"color": line}},
        "axisTick": {"show": False},
    }


def _names(labels: tuple[str, ...]) -> list[str]:
    """The labels behind their places, since two labels may be alike; bare numbers stay as they are."""
    bare = labels == tuple(map(str, range(len(labels))))
    return list(labels) if bare else [f"{place} {label}" for place, label in enumerate(labels)]


def _letters(labels: tuple[str, ...]) -> int:
    """How long the longest name of an axis is."""
    return max(map(len, _names(labels)), default=0)


def _source(panel: Grid) -> "pandas.DataFrame":
    """One row for each cell, row by row, with four digits of its value and its number, by which it is selected."""
    import pandas

    rows, columns = panel.values.shape
    down, across = np.divmod(np.arange(rows * columns), max(columns, 1))
    cells = {
        name: pandas.Categorical.from_codes(codes.astype(np.int32), _names(labels))
        for name, codes, labels in (("x", across, panel.x_labels), ("y", down, panel.y_labels))
    }
    values = [float(f"{value:.4g}") for value in panel.values.ravel().tolist()]
    return pandas.DataFrame({**cells, "value": values, "cell": np.arange(rows * columns)})


def _plain(text: str) -> str:
    """A text that a template cannot take for HTML or for a placeholder."""
    return "".join(letter if letter.isalnum() or letter in " ()-_.,|" else " " for letter in text)
