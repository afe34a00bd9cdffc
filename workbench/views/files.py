"""Files: a panel as one SVG file, with its heading, legend and colour scale inside the drawing.

The colours suit a white ground, which the file brings along; every text is escaped.
"""

import re
from html import escape

from workbench.views.charts import chart, cloud
from workbench.views.colours import colour_of, ink_on, scale, series_colours
from workbench.views.network import network
from workbench.views.panels import Chart, Cloud, Grid, Network, Panel, Strip
from workbench.views.plane import LETTER, WIDTH, text
from workbench.views.svg import grid
from workbench.views.texts import number_text

_INK = "#1f2328"
_DRAWING = re.compile(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*)</svg>', re.DOTALL)
"""What `plane.drawing` writes."""
_LINE = 22.0
"""Height of a line of text."""
_EDGE = 8.0


def picture_file(panel: Panel) -> str:
    """Draw a panel as the content of an SVG file.

    Raises:
        ValueError: the panel is a table, which is no drawing.
    """
    match panel:
        case Grid():
            width, height, body = _parts(grid(panel))
        case Chart():
            width, height, body = _parts(chart(panel))
        case Cloud():
            width, height, body = _parts(cloud(panel))
        case Network():
            width, height, body = _parts(network(panel))
        case Strip():
            width, height, body = WIDTH, *_strip(panel)
        case _:
            raise ValueError(f"{panel.title} is a table: it can be had as CSV or JSON, not as a drawing")
    lines = [text(0.0, 15.0, panel.title, "start", ' font-size="15" font-weight="600"')]
    lines += _legend(panel) if isinstance(panel, Chart) else []
    top = _LINE * len(lines) + _EDGE
    shapes = [f'<g transform="translate(0 {_LINE * place:g})">{line}</g>' for place, line in enumerate(lines)]
    shapes.append(f'<g transform="translate(0 {top:g})">{body}</g>')
    if not isinstance(panel, Chart) and panel.values is not None:
        shapes.append(f'<g transform="translate(0 {top + height + _EDGE:g})">{_scale(panel)}</g>')
        height += _LINE + _EDGE
    wide = max(width, len(panel.title) * LETTER * 1.3, 320.0) + 2 * _EDGE
    tall = top + height + 2 * _EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:g}" height="{tall:g}" viewBox="0 0 {wide:g} {tall:g}" '
        f'fill="{_INK}" color="{_INK}" font-size="12" font-family="system-ui, sans-serif">'
        f'<rect width="{wide:g}" height="{tall:g}" fill="#ffffff"/>'
        f'<g transform="translate({_EDGE:g} {_EDGE:g})">{"".join(shapes)}</g></svg>'
    )


def _parts(drawn: str) -> tuple[float, float, str]:
    """Width, height and shapes of the drawing inside some HTML."""
    found = _DRAWING.search(drawn)
    assert found is not None, "every drawing is written by plane.drawing"
    return float(found[1]), float(found[2]), found[3]


def _legend(panel: Chart) -> list[str]:
    """The names of the series beside their colours, in as many lines as they take."""
    if len(panel.curves) < 2:
        return []
    lines, across = [""], 0.0
    for curve, paint in zip(panel.curves, series_colours(len(panel.curves)), strict=True):
        wide = 30 + len(curve.name) * LETTER
        if across and across + wide > WIDTH:
            lines.append("")
            across = 0.0
        dot = f'<circle cx="{across + 6:g}" cy="8" r="5" fill="{paint}"/>'
        lines[-1] += dot + text(across + 16, 12.0, curve.name, "start")
        across += wide
    return lines


def _scale(panel: Grid | Cloud | Strip | Network) -> str:
    """The colour scale between its two ends, with what it measures."""
    low, high = (number_text(end) for end in panel.bounds)
    shades = scale(panel.diverging)
    stops = "".join(
        f'<stop offset="{place / (len(shades) - 1):.3f}" stop-color="{one}"/>' for place, one in enumerate(shades)
    )
    left = len(low) * LETTER + 8
    return (
        f'<defs><linearGradient id="scale">{stops}</linearGradient></defs>{text(0.0, 12.0, low, "start")}'
        f'<rect x="{left:g}" y="2" width="140" height="11" fill="url(#scale)"/>'
        + text(left + 148, 12.0, f"{high}  {panel.value_title}", "start")
    )


def _strip(panel: Strip) -> tuple[float, str]:
    """The height of the lines of tokens, and their shapes."""
    across, down, shapes = 0.0, 0.0, []
    for token, number in zip(panel.tokens, panel.values.tolist(), strict=True):
        wide = len(token) * LETTER * 1.15 + 10
        if across and across + wide > WIDTH:
            across, down = 0.0, down + _LINE
        missing = number != number
        paint = "none" if missing else colour_of(number, panel.bounds, panel.diverging)
        ink = _INK if missing else ink_on(paint)
        shapes.append(f'<rect x="{across:g}" y="{down:g}" width="{wide:g}" height="18" rx="3" fill="{paint}"/>')
        shapes.append(text(across + 5, down + 13, token, "start", f' fill="{escape(ink)}"'))
        across += wide + 3
    return down + _LINE, "".join(shapes)
