"""Cards: all that saved results say of one attention head, or of one neuron."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from workbench.named import Named
from workbench.result import Result

Unit = Literal["head", "neuron"]


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
    return _card(results, "head", layer, head)


def neuron_card(results: Iterable[Result], layer: int, neuron: int) -> list[dict[str, Any]]:
    """One row for each measure of neurons, as `head_card` has them for heads; `neurons` says of how many."""
    return _card(results, "neuron", layer, neuron)


def _card(results: Iterable[Result], unit: Unit, layer: int, number: int) -> list[dict[str, Any]]:
    if layer < 0 or number < 0:
        raise ValueError(f"layer and {unit} count from 0: found layer {layer}, {unit} {number}")
    rows = []
    for result in results:
        for name, array in _measures(result, unit):
            if (row := _row(array, unit, layer, number)) is not None:
                rows.append({"analysis": result.analysis, "measure": name, **row})
    return rows


def _measures(result: Result, unit: Unit) -> Iterator[tuple[str, Named]]:
    """Arrays over layer and unit, with a name each."""
    for name, array in result.arrays.items():
        if name.endswith(("lower", "upper")):
            continue
        if set(array.axes) == {"layer", unit}:
            yield name, array
        elif set(array.axes) == {"component", "layer", unit}:
            place = array.axes.index("component")
            axes = tuple(axis for axis in array.axes if axis != "component")
            labels = {axis: names for axis, names in array.labels.items() if axis != "component"}
            for index, component in enumerate(array.names("component")):
                yield f"{name}: {component}", Named(array.values.take(index, place), axes, array.unit, labels)


def _row(array: Named, unit: Unit, layer: int, number: int) -> dict[str, Any] | None:
    """The numbers of a unit in one array; None when it is not there."""
    names = {axis: array.names(axis) for axis in array.axes}
    wanted = {"layer": str(layer), unit: str(number)}
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
        f"{unit}s": int(known.size),
    }
