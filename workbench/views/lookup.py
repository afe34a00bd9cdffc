"""Lookup: from a view and its result to the panel that shows it.

Slices, limits of the colour scale, downsampling, titles and readable tokens are decided here, once for all
ways of drawing.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from workbench.named import Named
from workbench.views.kinds import (
    Bars,
    Graph,
    Heatmap,
    Lines,
    Scatter,
    Source,
    Table,
    Tokens,
    View,
    check_view,
)
from workbench.views.panels import Bounds, Chart, Cloud, Curve, Grid, Network, Panel, Sheet, Strip
from workbench.views.texts import cell_text, readable, visible, words_of
from workbench.views.thinning import block_size, pool, stride, thin

MAX_EDGES = 1000
"""Edges of a graph; of more, the strongest are drawn."""


def panel_of(view: View, source: Source, select: Mapping[str, int] | None = None) -> Panel:
    """Look up what a view shows.

    Args:
        view: what to show.
        source: where its arrays and tables are.
        select: indices of further axes, over the view's own.

    Raises:
        KeyError: the view names something that is not there.
        IndexError: a selected index is outside its axis.
    """
    check_view(view, source)
    chosen = {**(view.select or {}), **(select or {})}
    match view:
        case Heatmap():
            return _grid(view, source, chosen)
        case Lines() | Bars():
            return _chart(view, source, chosen)
        case Scatter():
            return _cloud(view, source, chosen)
        case Tokens():
            return _strip(view, source, chosen)
        case Table():
            return _sheet(view, source)
        case Graph():
            return _network(view, source)


def _grid(view: Heatmap, source: Source, select: Mapping[str, int]) -> Grid:
    array = source.arrays[view.array]
    values, chosen = _slice(array, (view.y, view.x), select)
    labels = {axis: tuple(visible(name) for name in array.names(axis)) for axis in (view.x, view.y)}
    blocks = blocks_of(array, view)
    for place, axis in enumerate((view.y, view.x)):
        if blocks[place] > 1:
            values, labels[axis] = pool(values, labels[axis], place)
    return Grid(
        title=_title(view.title or words_of(view.array), chosen, max(blocks) > 1),
        values=values,
        x_title=words_of(view.x),
        y_title=words_of(view.y),
        x_labels=labels[view.x],
        y_labels=labels[view.y],
        value_title=_value_title(view.array, array),
        bounds=bounds_of(array.values, view.diverging, array.unit),
        diverging=view.diverging,
        upward=view.y.endswith("layer"),
    )


def _chart(view: Lines | Bars, source: Source, select: Mapping[str, int]) -> Chart:
    curves = [curve for place in range(len(view.arrays)) for curve in _curves(view, place, source, select)]
    first = source.arrays[view.arrays[0]]
    chosen = _slice(first, view.read_axes, select)[1]
    labels = tuple(visible(name) for name in first.names(view.x))
    step = stride(len(labels))
    return Chart(
        title=_title(view.title or words_of(view.arrays[0]), chosen, step > 1),
        curves=tuple(thin(curve, step) for curve in curves),
        x_title=words_of(view.x),
        x_labels=labels[::step],
        y_title=_value_title(view.arrays[0], first) if len(view.arrays) == 1 else first.unit,
        bars=isinstance(view, Bars),
        log=isinstance(view, Lines) and view.log,
    )


def _curves(view: Lines | Bars, place: int, source: Source, select: Mapping[str, int]) -> list[Curve]:
    """The curves of one of the arrays: one for each index of the axis `series`, else a single one."""
    array = source.arrays[view.arrays[place]]
    limits = [source.arrays[names[place]] for names in (view.lower, view.upper) if names]
    keep = (view.series, view.x) if view.series else (view.x,)
    parts = [_slice(one, keep, select)[0] for one in (array, *limits)]
    name = words_of(view.arrays[place])
    if not view.series:
        return [Curve(name, *parts)]
    prefix = f"{name}, " if len(view.arrays) > 1 else ""
    series = [f"{prefix}{words_of(view.series)} {visible(label)}" for label in array.names(view.series)]
    return [Curve(text, *(part[index] for part in parts)) for index, text in enumerate(series)]


def _cloud(view: Scatter, source: Source, select: Mapping[str, int]) -> Cloud:
    if view.table:
        columns, names = _table_points(view, source.tables[view.table])
        titles = {name: words_of(name) for name in columns}
        chosen: list[str] = []
    else:
        columns, names, chosen = _array_points(view, source, select)
        titles = {name: _value_title(name, source.arrays[name]) for name in columns}
    shown = np.flatnonzero(np.isfinite(columns[view.x]) & np.isfinite(columns[view.y]))
    step = stride(len(shown))
    shown = shown[::step]
    colour = columns[view.colour] if view.colour else None
    return Cloud(
        title=_title(view.title or f"{words_of(view.y)} over {words_of(view.x)}", chosen, step > 1),
        x=columns[view.x][shown],
        y=columns[view.y][shown],
        names=tuple(names[index] for index in shown),
        x_title=titles[view.x],
        y_title=titles[view.y],
        values=None if colour is None else colour[shown],
        value_title=titles.get(view.colour, ""),
        bounds=bounds_of(np.zeros(0) if colour is None else colour, view.diverging),
        diverging=view.diverging,
    )


def _strip(view: Tokens, source: Source, select: Mapping[str, int]) -> Strip:
    array = source.arrays[view.array]
    values, chosen = _slice(array, (view.axis,), select)
    return Strip(
        title=_title(view.title or words_of(view.array), chosen),
        tokens=tuple(visible(name) for name in array.names(view.axis)),
        values=values,
        axis=words_of(view.axis),
        value_title=_value_title(view.array, array),
        bounds=bounds_of(array.values, view.diverging, array.unit),
        diverging=view.diverging,
    )


def _sheet(view: Table, source: Source) -> Sheet:
    rows = source.tables[view.table]
    columns = tuple(view.columns) or tuple(rows[0] if rows else ())
    shown = rows[: view.rows]
    return Sheet(
        title=_title(view.title or words_of(view.table), []),
        headings=tuple(words_of(column) for column in columns),
        rows=tuple(tuple(cell_text(row[column]) for column in columns) for row in shown),
        numeric=tuple(all(type(row[column]) in (int, float) for row in shown) for column in columns),
        hidden=len(rows) - len(shown),
    )


def _network(view: Graph, source: Source) -> Network:
    nodes, edges = source.tables[view.nodes], source.tables[view.edges]
    places = {node["id"]: index for index, node in enumerate(nodes)}
    if unknown := {edge[end] for edge in edges for end in ("source", "target")} - set(places):
        raise KeyError(f"edges of {view.edges!r} name nodes that {view.nodes!r} does not have: {sorted(unknown)}")
    strongest = sorted(edges, key=lambda edge: -abs(edge["weight"]))[:MAX_EDGES]
    values = _numbers(nodes, "value") if nodes and all("value" in node for node in nodes) else None
    hidden = len(edges) - len(strongest)
    return Network(
        title=_title(view.title or words_of(view.nodes), [f"{hidden} weaker edges not shown"] * (hidden > 0)),
        x=_numbers(nodes, "x"),
        y=_numbers(nodes, "y"),
        labels=tuple(visible(str(node["label"])) for node in nodes),
        values=values,
        value_title=view.value_title,
        bounds=bounds_of(np.zeros(0) if values is None else values, view.diverging),
        diverging=view.diverging,
        edges=tuple((places[edge["source"]], places[edge["target"]], float(edge["weight"])) for edge in strongest),
        x_title=view.x_title,
        y_title=view.y_title,
        ids=tuple(str(node["id"]) for node in nodes),
        shares=tuple(float(edge["share"] if "share" in edge else abs(edge["weight"])) for edge in strongest),
        kinds=_texts(nodes, "kind"),
        columns=_texts(nodes, "column"),
        rows=_texts(nodes, "row"),
        details=tuple(
            tuple(f"{words_of(name)} {cell_text(node[name])}" for name in view.details if node[name] is not None)
            for node in nodes
        ),
    )


def _texts(rows: list, column: str) -> tuple[str, ...]:
    """A column of a table as readable texts, nothing where some row lacks it."""
    return tuple(visible(str(row[column])) for row in rows) if all(column in row for row in rows) else ()


def blocks_of(array: Named, view: Heatmap) -> tuple[int, int]:
    """How many rows, and how many columns, one cell of a heatmap stands for."""
    sizes = array.size(view.y), array.size(view.x)
    return block_size(sizes[0], sizes[0] * sizes[1]), block_size(sizes[1], sizes[0] * sizes[1])


def cells_of(view: Heatmap, source: Source) -> tuple[int, int]:
    """How many rows and columns of cells a heatmap has."""
    array = source.arrays[view.array]
    rows, columns = blocks_of(array, view)
    return -(-array.size(view.y) // rows), -(-array.size(view.x) // columns)


def cell_of(view: Heatmap, source: Source, place: tuple[int | None, int | None]) -> tuple[int | None, int | None]:
    """The column and row of the cell that shows these indices on the horizontal and the vertical axis."""
    rows, columns = blocks_of(source.arrays[view.array], view)
    across, down = place
    return None if across is None else across // columns, None if down is None else down // rows


def bounds_of(values: np.ndarray, diverging: bool, unit: str = "") -> Bounds:
    """The limits of the colour scale: of the whole array, so that all its slices share one scale.

    Effects get limits symmetric around zero. Probabilities start at zero; so do other scores, unless that
    would hide the differences between them.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if diverging:
        largest = max(-low, high) or 1.0
        return -largest, largest
    if 0 <= low <= high / 2 or low == high or (unit == "probability" and low >= 0):
        low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if low < high else (0.0, 1.0)


def _slice(array: Named, keep: tuple[str, ...], select: Mapping[str, int]) -> tuple[np.ndarray, list[str]]:
    """The float32 values over the axes to keep, in that order, and the indices of the others in words."""
    index: list[int | slice] = []
    chosen = []
    for axis in array.axes:
        if axis in keep:
            index.append(slice(None))
            continue
        place = select.get(axis, 0)
        if not -array.size(axis) <= place < array.size(axis):
            raise IndexError(f"{axis} {place} was selected, but the axis has {array.size(axis)} entries")
        index.append(place)
        if array.size(axis) > 1:
            chosen.append(_place_text(array, axis, place % array.size(axis)))
    left = [axis for axis in array.axes if axis in keep]
    values = array.values[tuple(index)].transpose([left.index(axis) for axis in keep])
    return values.astype(np.float32), chosen


def _place_text(array: Named, axis: str, place: int) -> str:
    label = f" {visible(array.labels[axis][place])}" if axis in array.labels else ""
    return f"{words_of(axis)} {place}{label}"


def _title(title: str, chosen: Sequence[str], downsampled: bool = False) -> str:
    return ", ".join([readable(title), *chosen, *["downsampled"] * downsampled])


def _value_title(name: str, array: Named) -> str:
    return words_of(name) if array.unit in words_of(name) else f"{words_of(name)} ({array.unit})"


def _array_points(
    view: Scatter, source: Source, select: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """The columns, names and fixed axes of a cloud whose points are elements of arrays."""
    first = source.arrays[view.x]
    for name in view.read_arrays:
        if source.arrays[name].axes != first.axes or source.arrays[name].values.shape != first.values.shape:
            raise ValueError(f"Scatter needs arrays of the same axes: {view.x!r} and {name!r} differ")
    keep = tuple(axis for axis in first.axes if axis not in select)
    columns = {name: _slice(source.arrays[name], keep, select)[0].ravel() for name in view.read_arrays}
    chosen = _slice(first, keep, select)[1]
    texts = [[_place_text(first, axis, place) for place in range(first.size(axis))] for axis in keep]
    grid = np.indices([len(one) for one in texts]).reshape(len(keep), -1).T
    names = [", ".join(text[place] for text, place in zip(texts, row, strict=True)) for row in grid]
    return columns, names, chosen


def _table_points(view: Scatter, rows: list) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns and names of a cloud whose points are rows of a table."""
    columns = {name: _numbers(rows, name) for name in (view.x, view.y, view.colour) if name}
    names = [cell_text(row[view.label]) if view.label else f"row {index}" for index, row in enumerate(rows)]
    return columns, names


def _numbers(rows: list, column: str) -> np.ndarray:
    """A column of a table as float32, NaN where it is None."""
    return np.array([np.nan if row[column] is None else row[column] for row in rows], dtype=np.float32)
