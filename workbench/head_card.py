"""Head card: all that saved results say of one attention head."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from workbench.named import Named
from workbench.result import Result


def head_card(results: Iterable[Result], layer: int, head: int) -> list[dict[str, Any]]:
    """One row for each measure of heads: the value of this head and its place among all.

    A measure is an array of a result with exactly the axes layer and head, or one for each entry of a further axis
    `component`. Limits of intervals are left out.

    Args:
        results: results on one model, in the order in which they shall be told.
        layer: the layer of the head.
        head: its number in the layer.

    Returns:
        Rows with analysis, measure, value, unit, rank (1 is the highest value), heads (of how many) and, where
        they lie on both sides of zero, `rank_of_size` (1 is the largest absolute value). Heads that the
        result leaves out (NaN) are not counted.

    Raises:
        ValueError: a negative layer or head.
    """
    if layer < 0 or head < 0:
        raise ValueError(f"layer and head count from 0: found layer {layer}, head {head}")
    rows = []
    for result in results:
        for name, array in _measures(result):
            if (row := _row(array, layer, head)) is not None:
                rows.append({"analysis": result.analysis, "measure": name, **row})
    return rows


def _measures(result: Result) -> Iterator[tuple[str, Named]]:
    """Arrays over layer and head, with a name each."""
    for name, array in result.arrays.items():
        if name.endswith(("lower", "upper")):
            continue
        if set(array.axes) == {"layer", "head"}:
            yield name, array
        elif set(array.axes) == {"component", "layer", "head"}:
            place = array.axes.index("component")
            axes = tuple(axis for axis in array.axes if axis != "component")
            labels = {axis: names for axis, names in array.labels.items() if axis != "component"}
            for index, component in enumerate(array.names("component")):
                yield f"{name}: {component}", Named(array.values.take(index, place), axes, array.unit, labels)


def _row(array: Named, layer: int, head: int) -> dict[str, Any] | None:
    """The numbers of a head in one array; None when it is not there."""
    names = {axis: array.names(axis) for axis in array.axes}
    wanted = {"layer": str(layer), "head": str(head)}
    if any(wanted[axis] not in names[axis] for axis in names):
        return None
    values = array.values.astype(np.float64)
    value = values[tuple(names[axis].index(wanted[axis]) for axis in array.axes)]
    known = values[np.isfinite(values)]
    if not np.isfinite(value):
        return None
    signed = bool((known < 0).any() and (known > 0).any())
    return {
        "value": float(value),
        "unit": array.unit,
        "rank": int((known > value).sum()) + 1,
        "rank_of_size": int((np.abs(known) > abs(value)).sum()) + 1 if signed else None,
        "heads": int(known.size),
    }
