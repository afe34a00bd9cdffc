"""Network: nodes and signed edges as SVG, in columns and rows where the nodes have them.

The drawing can be read as it is; `network.js` makes it answer to a pointer and to keys, by the `data-` attributes
that stand here. The first line of a node's `title` is its name, the others tell about it.
"""

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from workbench.views.colours import SERIES, colour_of
from workbench.views.panels import Network, Sheet
from workbench.views.plane import LETTER, WIDTH, Plane, fitted, label_room, text, titles, widened
from workbench.views.texts import number_text

_TOP, _NARROW_SLOT, _WIDE_SLOT = 30.0, 15.0, 150.0
"""Room above the nodes, and the least and the most room across for one of them."""
_ROW, _TALLEST = (38.0, 76.0), 460.0
"""The least and the most room between rows, and the height at which they draw together."""
_RADIUS = 6.0
_SHRUNK = 0.7
"""A drawing shrinks to this share of its width, then it scrolls."""
_NODES_WITH_LABELS = 40
_LETTERS = 10
"""A label is left out where there is room for fewer letters."""
_HALO = "stroke:var(--paper,var(--st-background-color,none));stroke-width:3px;paint-order:stroke"
"""A rim of the page's own colour around a label, which keeps it apart from the edges."""
_LISTED, _NEIGHBOURS = 100, 3
_SHAPES = {
    "error": "M0 -7L7 0L0 7L-7 0Z",
    "token": "M-6 -6H6V6H-6Z",
    "target": "M-6 -6H6V6H-6Z",
}
"""What is no feature, around the point 0, 0."""

SCRIPT = files("workbench.views").joinpath("network.js").read_text("utf-8")
"""The functions that make a drawing answer; `explore(root)` takes an element with one drawing in it."""


@dataclass(frozen=True)
class _Layout:
    """Where the nodes and the names of columns and rows lie; `slots` is the room across for each node."""

    places: list[tuple[float, float]]
    slots: list[float]
    columns: list[tuple[float, float, str]]
    rows: list[tuple[float, str]]
    left: float
    width: float
    bottom: float


def network(panel: Network) -> str:
    """Nodes over their edges; a blue edge helps, a red and broken one hinders, a wide one does so strongly.

    Widths grow with the root of the weight, since logits and activations stand side by side.
    """
    layout = _in_columns(panel) if panel.columns and panel.rows else _on_plane(panel)
    below, room = _column_names(layout)
    content = "".join(
        [
            *(_row(layout, y, name) for y, name in layout.rows),
            below,
            f'<g fill="none" stroke-opacity=".6">{"".join(_edges(panel, layout))}</g>',
            *(_node(panel, index, layout) for index in range(len(panel.labels))),
            titles(
                (layout.left + layout.width) / 2,
                layout.bottom + room,
                (_TOP + layout.bottom) / 2,
                panel.x_title,
                panel.y_title,
            ),
        ]
    )
    height = layout.bottom + room + 30
    look = f"width:100%;min-width:{_SHRUNK * layout.width:g}px;max-width:{layout.width:g}px;height:auto;display:block"
    return (
        f'<div style="overflow-x:auto"><svg viewBox="0 0 {layout.width:g} {height:g}" role="group" '
        f'aria-label="{escape(panel.title)}" fill="currentColor" font-size="12" style="{look}">{content}</svg></div>'
    )


def node_sheet(panel: Network) -> Sheet:
    """The nodes as a table, those of the largest value first, each with its strongest inputs and outputs."""
    inputs, outputs = defaultdict(list), defaultdict(list)
    for source, target, weight in sorted(panel.edges, key=lambda edge: -abs(edge[2])):
        inputs[target].append(f"{panel.labels[source]} {weight:+.4g}")
        outputs[source].append(f"{panel.labels[target]} {weight:+.4g}")
    order = sorted(range(len(panel.labels)), key=lambda index: -abs(_value(panel, index) or 0.0))
    rows = [
        (
            panel.labels[index],
            "; ".join(_about(panel, index)),
            "; ".join(inputs[index][:_NEIGHBOURS]),
            "; ".join(outputs[index][:_NEIGHBOURS]),
        )
        for index in order[:_LISTED]
    ]
    headings = ("node", "about", "strongest inputs", "strongest outputs")
    return Sheet(panel.title, headings, tuple(rows), (False,) * 4, max(len(order) - _LISTED, 0))


def _on_plane(panel: Network) -> _Layout:
    """Each node at its own place."""
    plane = Plane(30.0, _TOP, WIDTH - 60.0, 260.0, widened(panel.x.tolist()), widened(panel.y.tolist()))
    places = [(plane.across(x), plane.down(y)) for x, y in zip(panel.x.tolist(), panel.y.tolist(), strict=True)]
    slot = WIDTH / max(len(places), 1) ** 0.5
    return _Layout(places, [slot] * len(places), [], [], 0.0, WIDTH, plane.bottom)


def _in_columns(panel: Network) -> _Layout:
    """Columns as wide as their fullest place needs, with the nodes of one place side by side."""
    together: dict[tuple[int, float], list[int]] = defaultdict(list)
    for index in sorted(range(len(panel.labels)), key=lambda index: panel.x[index]):
        together[round(float(panel.x[index])), float(panel.y[index])].append(index)
    needed: dict[int, int] = defaultdict(int)
    for (column, _), same in sorted(together.items()):
        needed[column] = max(needed[column], len(same))
    heights = sorted({y for _, y in together}, reverse=True)
    names = {float(y): name for y, name in zip(panel.y.tolist(), panel.rows, strict=True)}
    left = 36 + label_room(names.values())
    slot = min(max((WIDTH - left) / max(sum(needed.values()), 1), _NARROW_SLOT), _WIDE_SLOT)
    step = min(max(_TALLEST / max(len(heights), 1), _ROW[0]), _ROW[1])
    downs = {y: _TOP + row * step for row, y in enumerate(heights)}
    starts, columns, start = {}, [], left
    for column, count in needed.items():
        starts[column] = start
        name = next(panel.columns[same[0]] for (at, _), same in together.items() if at == column)
        columns.append((start, start + count * slot, name))
        start += count * slot
    places, slots = [(0.0, 0.0)] * len(panel.labels), [0.0] * len(panel.labels)
    for (column, y), same in together.items():
        room = needed[column] * slot / len(same)
        for place, index in enumerate(same):
            places[index] = round(starts[column] + (place + 0.5) * room, 1), round(downs[y], 1)
            slots[index] = room
    bottom = _TOP + step * (len(heights) - 1) + 14
    return _Layout(places, slots, columns, [(downs[y], names[y]) for y in heights], left, start + 8, bottom)


def _row(layout: _Layout, y: float, name: str) -> str:
    """A faint line with the name of a row at its left."""
    line = f'<path d="M{layout.left:g} {y:g}H{layout.width:g}" stroke="currentColor" stroke-opacity=".12"/>'
    return line + text(layout.left - 8, y + 4, fitted(name), "end")


def _column_names(layout: _Layout) -> tuple[str, float]:
    """The names below the columns, slanted where one does not fit, and the height they take."""
    slanted = any(label_room([name]) > end - start for start, end, name in layout.columns)
    parts = []
    for start, end, name in layout.columns:
        x, y = (start + end) / 2, layout.bottom + 14
        turn = f' transform="rotate(-50 {x:.1f} {y:g})"' if slanted else ""
        parts.append(text(round(x, 1), y, fitted(name), "end" if slanted else "middle", turn))
    longest = label_room(name for *_, name in layout.columns)
    return "".join(parts), 4 + (longest * math.sin(math.radians(50)) if slanted else 12.0 * bool(parts))


def _edges(panel: Network, layout: _Layout) -> Iterable[str]:
    """The edges, the weakest first, so that the strong ones lie on top."""
    strongest = max((abs(weight) for *_, weight in panel.edges), default=0.0) or 1.0
    for (source, target, weight), share in reversed(list(zip(panel.edges, panel.shares, strict=True))):
        (x1, y1), (x2, y2) = layout.places[source], layout.places[target]
        middle = round((y1 + y2) / 2, 1)
        curve = f"C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}" if layout.rows else f"L{x2:g} {y2:g}"
        broken = ' stroke-dasharray="6 3"' if weight < 0 else ""
        hover = escape(f"{panel.labels[source]} to {panel.labels[target]}: {weight:+.4g}")
        yield (
            f'<path data-from="{source}" data-to="{target}" data-weight="{weight:.6g}" data-share="{share:.6g}" '
            f'd="M{x1:g} {y1:g}{curve}" stroke="{_sign_colour(weight)}"{broken} '
            f'stroke-width="{0.5 + 4.5 * (abs(weight) / strongest) ** 0.5:.1f}"><title>{hover}</title></path>'
        )


def _node(panel: Network, index: int, layout: _Layout) -> str:
    """A node in the shape of its kind, with its name and what is known of it on hover."""
    (x, y), value = layout.places[index], _value(panel, index)
    paint = SERIES[0] if value is None else colour_of(value, panel.bounds, panel.diverging)
    kind = panel.kinds[index] if panel.kinds else ""
    outline = f'fill="{paint}" stroke="currentColor" stroke-width="1.2"'
    shape = f'<path d="{_SHAPES[kind]}" {outline}/>' if kind in _SHAPES else f'<circle r="{_RADIUS:g}" {outline}/>'
    told = escape("\n".join([panel.labels[index], *_about(panel, index)]))
    return (
        f'<g data-node="{index}" data-id="{escape(panel.ids[index])}" data-rank="{abs(value or 0.0):.6g}" '
        f'transform="translate({x:g} {y:g})"><title>{told}</title>{shape}{_name(panel, index, layout)}</g>'
    )


def _name(panel: Network, index: int, layout: _Layout) -> str:
    """The name beside a node in up to two lines, where there is room; tokens stand at the axis already."""
    letters = int(layout.slots[index] / LETTER) - 1
    axis = bool(layout.columns) and bool(panel.kinds) and panel.kinds[index] == "token"
    if axis or letters < _LETTERS or len(panel.labels) > _NODES_WITH_LABELS:
        return ""
    lines = textwrap.wrap(panel.labels[index], letters, max_lines=2, placeholder="…")
    look = f' style="{_HALO}"'
    return "".join(
        text(0.0, -10.0 - 12.5 * (len(lines) - 1 - row), line, "middle", look) for row, line in enumerate(lines)
    )


def _about(panel: Network, index: int) -> list[str]:
    """What is known of a node, a line each."""
    value = _value(panel, index)
    named = (("", panel.kinds), (panel.y_title, panel.rows), (panel.x_title, panel.columns))
    places = [f"{title} {names[index]}".strip() for title, names in named if names]
    told = [] if value is None else [f"{panel.value_title} {number_text(value)}"]
    return [*places, *told, *(panel.details[index] if panel.details else ())]


def _value(panel: Network, index: int) -> float | None:
    """The value of a node, if it has one."""
    value = math.nan if panel.values is None else float(panel.values[index])
    return None if math.isnan(value) else value


def _sign_colour(weight: float) -> str:
    """Blue for what helps, red for what hinders."""
    return colour_of(math.copysign(0.75, weight), (-1.0, 1.0), diverging=True)


def legend(panel: Network) -> str:
    """What the edges mean, and the shapes, as far as they occur."""
    lines = "".join(
        f'<svg width="30" height="8" aria-hidden="true"><path d="M2 4H28" stroke="{_sign_colour(sign)}" '
        f'stroke-width="3"{more}/></svg> {word}&emsp;'
        for sign, word, more in ((1.0, "adds", ""), (-1.0, "takes away", ' stroke-dasharray="6 3"'))
    )
    signs = {"feature": "●", "error": "◆", "token": "■", "target": "■"}
    shapes = "&emsp;".join(f"{signs[kind]} {escape(kind)}" for kind in signs if kind in panel.kinds)
    return f"<p><small>{lines}{shapes}</small></p>"
