"""Charts: curves, bars and clouds as SVG on a plane."""

import math
from html import escape

import numpy as np

from workbench.views.colours import SERIES, colour_of, series_colours
from workbench.views.panels import Bounds, Chart, Cloud, Curve
from workbench.views.plane import WIDTH, Plane, drawing, labels_below, left_room, ticks, widened
from workbench.views.texts import number_text

_HEIGHT = 280.0
_MAX_DOTS = 240
"""With more points in all, curves have no dots that show their numbers on hover."""


def chart(panel: Chart) -> str:
    """Curves or bars over one labelled axis, with a legend above if there are several."""
    count = len(panel.x_labels)
    plane = _plane((-0.5, max(count, 1) - 0.5), _range(panel), panel.log, panel.x_labels)
    below, room = labels_below(panel.x_labels, plane.across(0.0), plane.width / max(count, 1), plane.bottom + 6)
    shapes = []
    paints = series_colours(len(panel.curves))
    for number, (curve, paint) in enumerate(zip(panel.curves, paints, strict=True)):
        if panel.bars:
            shapes.append(_bars(curve, plane, paint, panel.x_labels, number, len(panel.curves)))
        else:
            dots = panel.x_labels if count * len(panel.curves) <= _MAX_DOTS else ()
            shapes.append(_line(curve, plane, paint, dots))
    content = plane.frame() + "".join(shapes) + below + plane.titles(panel.x_title, panel.y_title, room)
    return _legend(panel.curves) + drawing(plane.bottom + room + 30, content, panel.title)


def cloud(panel: Cloud) -> str:
    """Points with their names on hover."""
    plane = _plane(widened(panel.x.tolist()), widened(panel.y.tolist()))
    dots = []
    for index, (x, y) in enumerate(zip(panel.x.tolist(), panel.y.tolist(), strict=True)):
        told = [panel.names[index], f"{panel.x_title} {number_text(x)}", f"{panel.y_title} {number_text(y)}"]
        if panel.values is not None:
            told.append(f"{panel.value_title} {number_text(float(panel.values[index]))}")
        dots.append(_dot(plane.across(x), plane.down(y), 4.0, _paint(panel, index), ", ".join(told)))
    content = plane.frame() + plane.numbers_below() + "".join(dots) + plane.titles(panel.x_title, panel.y_title, 16.0)
    return drawing(plane.bottom + 46, content, panel.title)


def _paint(panel: Cloud, index: int) -> str:
    """The colour of a point: by its value if it has one."""
    if panel.values is None:
        return SERIES[0]
    value = float(panel.values[index])
    return "gray" if math.isnan(value) else colour_of(value, panel.bounds, panel.diverging)


def _plane(x: Bounds, y: Bounds, log: bool = False, x_labels: tuple[str, ...] = ()) -> Plane:
    """A plane that leaves room for the numbers at its left and the labels below."""
    left = left_room([f"{tick:g}" for tick in ticks(y, log)], x_labels)
    return Plane(left, 14.0, WIDTH - left - 10, _HEIGHT, x, y, log)


def _range(panel: Chart) -> Bounds:
    """The vertical bounds of all curves; bars start at zero."""
    parts = [part for curve in panel.curves for part in (curve.values, curve.lower, curve.upper) if part is not None]
    numbers = np.concatenate(parts).tolist() if parts else []
    low, high = widened([*numbers, 0.0] if panel.bars else numbers, panel.log)
    if panel.bars and min(numbers, default=0.0) >= 0:
        low = 0.0
    return low, high


def _line(curve: Curve, plane: Plane, paint: str, labels: tuple[str, ...]) -> str:
    """The band, the line (broken where there is no number) and a dot with its number for each label."""
    parts = []
    if curve.lower is not None and curve.upper is not None:
        edge = [*enumerate(curve.upper.tolist()), *reversed(list(enumerate(curve.lower.tolist())))]
        corners = [(plane.across(float(x)), plane.down(y)) for x, y in edge]
        outline = "L".join(f"{x:g} {y:g}" for x, y in corners if not math.isnan(y))
        parts.append(f'<path d="M{outline}Z" fill="{paint}" fill-opacity=".18"/>' if outline else "")
    points = [(plane.across(float(x)), plane.down(y)) for x, y in enumerate(curve.values.tolist())]
    pieces = " ".join("|" if math.isnan(y) else f"{x:g},{y:g}" for x, y in points).split("|")
    parts += [
        f'<polyline points="{piece.strip()}" fill="none" stroke="{paint}" stroke-width="2"/>'
        for piece in pieces
        if piece.strip()
    ]
    for (x, y), label, number in zip(points, labels, curve.values.tolist(), strict=False):
        hover = f"{curve.name}, {label}: {number_text(number)}"
        parts.append("" if math.isnan(y) else _dot(x, y, 3.0, paint, hover))
    return "".join(parts)


def _bars(curve: Curve, plane: Plane, paint: str, labels: tuple[str, ...], number: int, count: int) -> str:
    """The bars of one of `count` series, side by side in their group, with their error bars."""
    group = plane.width / max(len(labels), 1)
    wide = group * 0.8 / count
    zero = plane.down(0.0)
    parts = []
    for place, value in enumerate(curve.values.tolist()):
        if math.isnan(value):
            continue
        left = plane.across(float(place)) - group * 0.4 + number * wide
        y = plane.down(value)
        hover = escape(f"{curve.name}, {labels[place]}: {number_text(value)}")
        parts.append(
            f'<rect x="{left:.1f}" y="{min(y, zero):.1f}" width="{wide:.1f}" height="{abs(zero - y):.1f}" '
            f'fill="{paint}"><title>{hover}</title></rect>'
        )
        if curve.lower is not None and curve.upper is not None:
            ends = [plane.down(float(part[place])) for part in (curve.lower, curve.upper)]
            middle = left + wide / 2
            if not any(map(math.isnan, ends)):
                parts.append(f'<path d="M{middle:.1f} {ends[0]:g}V{ends[1]:g}" stroke="currentColor"/>')
    return "".join(parts)


def _dot(x: float, y: float, radius: float, paint: str, hover: str) -> str:
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{paint}"><title>{escape(hover)}</title></circle>'


def _legend(curves: tuple[Curve, ...]) -> str:
    """The names of the series beside their colours, or nothing for a single one."""
    if len(curves) < 2:
        return ""
    names = "".join(
        f'<span style="display:inline-block;margin-right:1.2em"><span style="color:{paint}">●</span> '
        f"<bdi>{escape(curve.name)}</bdi></span>"
        for curve, paint in zip(curves, series_colours(len(curves)), strict=True)
    )
    return f'<div class="legend"><small>{names}</small></div>'
