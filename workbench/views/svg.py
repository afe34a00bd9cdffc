"""SVG: panels drawn as HTML with inline SVG, for pages that run no script and open no address.

Every text is escaped where it is written. Numbers show on hover through `title` elements.
"""

import math
from html import escape

import numpy as np

from workbench.views.charts import chart, cloud
from workbench.views.colours import colour_of, ink_on, scale
from workbench.views.network import legend, network, node_sheet
from workbench.views.panels import Chart, Cloud, Grid, Network, Panel, Sheet, Strip
from workbench.views.pixels import png_address
from workbench.views.plane import WIDTH, drawing, fitted, labels_below, left_room, text, titles
from workbench.views.texts import number_text, readable

_TOP = 6.0
"""Room above a grid for half a label."""
_MAX_SHAPES = 1200
"""A grid with more cells becomes an image."""


def draw(panel: Panel, caption: str = "", heading: bool = True, dark: bool = False) -> str:
    """A panel as an HTML figure: heading unless the page has one, drawing, colour scale, caption.

    What is drawn for a page that is known to be dark are tokens; all else suits both.
    """
    match panel:
        case Grid():
            body = grid(panel) + _scale(panel)
        case Chart():
            body = chart(panel)
        case Cloud():
            body = cloud(panel) + (_scale(panel) if panel.values is not None else "")
        case Strip():
            body = _strip(panel, dark) + _scale(panel, dark)
        case Sheet():
            body = _sheet(panel)
        case Network():
            colours = _scale(panel) if panel.values is not None else ""
            body = _explorable(network(panel) + legend(panel) + colours, _sheet(node_sheet(panel)))
    below = f"<p>{escape(readable(caption))}</p>" if caption else ""
    above = f"<figcaption>{escape(panel.title)}</figcaption>" if heading else ""
    return f'<figure class="view">{above}{body}{below}</figure>'


def _explorable(picture: str, table: str) -> str:
    """A network with its numbers as a table; a page that runs `network.js` makes it answer to clicks."""
    return f'<div class="network">{picture}<details><summary>Nodes as a table</summary>{table}</details></div>'


def grid(panel: Grid) -> str:
    """A heatmap, without its colour scale."""
    rows, columns = panel.values.shape
    values, y_labels = panel.values, panel.y_labels
    if panel.upward:
        values, y_labels = values[::-1], y_labels[::-1]
    left = left_room(y_labels, panel.x_labels)
    wide = min((WIDTH - left - 8) / max(columns, 1), 64.0)
    tall = min(420 / max(rows, 1), 24.0)
    cells = _shapes(panel, values, y_labels) if values.size <= _MAX_SHAPES else _image(panel, values)
    placed = f'<g transform="translate({left:g} 0) scale({wide:.3f} {tall:.3f})">{cells}</g>'
    below, room = labels_below(panel.x_labels, left + wide / 2, wide, rows * tall + 6)
    every = math.ceil(13 / tall)
    # counted from layer 0, wherever that is
    named = [row for row in range(rows) if (rows - 1 - row if panel.upward else row) % every == 0]
    beside = "".join(text(left - 6, round((row + 0.5) * tall + 4, 1), fitted(y_labels[row]), "end") for row in named)
    axes = titles(left + columns * wide / 2, rows * tall + room, rows * tall / 2, panel.x_title, panel.y_title)
    width = max(left + columns * wide + 8, 160.0)
    content = f'<g transform="translate(0 {_TOP:g})">{placed}{beside}{below}{axes}</g>'
    return drawing(rows * tall + room + 30 + _TOP, content, panel.title, width)


def _shapes(panel: Grid, values: np.ndarray, y_labels: tuple[str, ...]) -> str:
    """One square of size 1 per cell, with its number on hover."""
    parts = []
    for row, numbers in enumerate(values.tolist()):
        place = f"{panel.y_title} {y_labels[row]}, {panel.x_title}"
        for column, number in enumerate(numbers):
            paint = "none" if math.isnan(number) else colour_of(number, panel.bounds, panel.diverging)
            hover = escape(f"{place} {panel.x_labels[column]}: {number_text(number)}")
            square = f'<path fill="{paint}" d="M{column} {row}h1v1h-1z">'
            parts.append(f"{square}<title>{hover}</title></path>")
    return '<g shape-rendering="crispEdges" pointer-events="all">' + "".join(parts) + "</g>"


def _image(panel: Grid, values: np.ndarray) -> str:
    """The cells as the pixels of one image, each of size 1."""
    rows, columns = values.shape
    address = png_address(values, panel.bounds, panel.diverging)
    return (
        f'<image width="{columns}" height="{rows}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="{address}"/>'
    )


def _scale(panel: Grid | Cloud | Strip | Network, dark: bool = False) -> str:
    """The colour scale between its two ends, with what it measures."""
    low, high = (escape(number_text(end)) for end in panel.bounds)
    shades = ",".join(scale(panel.diverging, dark))
    look = f"display:inline-block;width:9em;height:.7em;background:linear-gradient(90deg,{shades})"
    return f'<p><small>{low} <span style="{look}"></span> {high}&emsp;{escape(panel.value_title)}</small></p>'


def _strip(panel: Strip, dark: bool) -> str:
    parts = []
    for place, (token, number) in enumerate(zip(panel.tokens, panel.values.tolist(), strict=True)):
        look = "outline:1px dotted"
        if not math.isnan(number):
            paint = colour_of(number, panel.bounds, panel.diverging, dark)
            look = f"background:{paint};color:{ink_on(paint)}"
        hover = escape(f"{panel.axis} {place}: {number_text(number)}")
        look = f"padding:1px 4px;border-radius:3px;{look}"
        parts.append(f'<bdi style="{look}" title="{hover}">{escape(token)}</bdi>')
    return f'<div style="display:flex;flex-wrap:wrap;gap:3px">{"".join(parts)}</div>'


def _sheet(panel: Sheet) -> str:
    looks = [' style="text-align:right"' if numeric else "" for numeric in panel.numeric]
    head = "".join(f"<th{look}>{escape(name)}</th>" for look, name in zip(looks, panel.headings, strict=True))
    rows = "".join(f"<tr>{_cells(row, looks)}</tr>" for row in panel.rows)
    more = f"<p><small>and {panel.hidden} more rows</small></p>" if panel.hidden else ""
    return f'<div class="sheet"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{more}'


def _cells(row: tuple[str, ...], looks: list[str]) -> str:
    return "".join(f"<td{look}><bdi>{escape(cell)}</bdi></td>" for look, cell in zip(looks, row, strict=True))
