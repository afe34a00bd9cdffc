"""Comparison: two results of one analysis cell by cell, on one colour scale.

Two models (base and tuned, two checkpoints), two prompts or two settings: whatever the results share is laid
side by side, with the change from the first to the second beside it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.named import Named
from workbench.result import Result
from workbench.stats import pearson
from workbench.views import Bars, Heatmap, Lines, Table, View

_SIDES = ("first", "second")


def compare(first: Result, second: Result) -> Result:
    """Lay two results of one analysis side by side.

    Arrays of one name that have the same axes, sizes and unit in both are compared: each gains an axis `run`,
    and `<name>_change` is the second minus the first.

    Args:
        first: a result.
        second: another one of the same analysis.

    Returns:
        A result as any other, to keep and to report, of the analysis `comparison`: its inputs are the two runs. It has
        the tables `changes` (one row for each array: the largest and the mean absolute change, where the
        largest is, and the Pearson correlation between the two) and `scalars_compared`.

    Raises:
        ValueError: the results are of two analyses, or share no array and no scalar.
    """
    if first.analysis != second.analysis:
        raise ValueError(f"only results of one analysis can be compared: found {first.analysis} and {second.analysis}")
    pairs = {name: (array, second.arrays[name]) for name, array in first.arrays.items() if name in second.arrays}
    alike = {name: pair for name, pair in pairs.items() if _alike(*pair)}
    scalars = _scalars(first, second)
    if not alike and not scalars:
        raise ValueError(f"these two results of {first.analysis} share no array of one shape and no scalar")
    arrays = {name: _stacked(*pair) for name, pair in alike.items()}
    arrays |= {f"{name}_change": _change(*pair) for name, pair in alike.items()}
    changes = [_row(name, *pair) for name, pair in alike.items()]
    unlike = sorted({*first.arrays, *second.arrays} - set(alike))
    return Result(
        analysis="comparison",
        title=f"{first.title}, compared",
        model={"name": f"{_told(first)}  |  {_told(second)}"},
        inputs={"first": _described(first), "second": _described(second)},
        arrays=arrays,
        tables={"changes": changes, "scalars_compared": scalars},
        views=(*_views(first, alike), *([Table("changes")] if changes else []), Table("scalars_compared")),
        finding=_finding(changes, scalars),
        notes=_notes(first, second, unlike),
        reference=first.reference,
    )


def comparison_key(first: Result, second: Result) -> str:
    """What a store finds the comparison of these two results by: a sha256 of both."""
    digest = hashlib.sha256(b"comparison")
    for side in (first, second):
        for name, content in side.files().items():
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _described(result: Result) -> dict[str, Any]:
    """All that it takes to make a side again."""
    told = {"analysis": result.analysis, "model": result.model, "inputs": result.inputs, "params": result.params}
    return {"type": "run", **told}


def _alike(one: Named, other: Named) -> bool:
    return (one.axes, one.values.shape, one.unit) == (other.axes, other.values.shape, other.unit)


def _labels(one: Named, other: Named) -> dict[str, tuple[str, ...]]:
    """The labels of both; where two tokens differ, both are shown."""
    return {
        axis: tuple(a if a == b else f"{a} | {b}" for a, b in zip(one.names(axis), other.names(axis), strict=True))
        for axis in {**one.labels, **other.labels}
    }


def _stacked(one: Named, other: Named) -> Named:
    labels = {"run": _SIDES, **_labels(one, other)}
    return Named(np.stack([one.values, other.values]), ("run", *one.axes), one.unit, labels)


def _change(one: Named, other: Named) -> Named:
    values = other.values.astype(np.float64) - one.values.astype(np.float64)
    return Named(values, one.axes, one.unit, _labels(one, other))


def _row(name: str, one: Named, other: Named) -> dict[str, Any]:
    change = _change(one, other).values
    known = np.isfinite(change)
    row = {"array": name, "cells": int(change.size), "mean_absolute_change": None, "largest_change": None, "where": ""}
    if known.any():
        place = np.unravel_index(np.where(known, np.abs(change), -1.0).argmax(), change.shape)
        where = ", ".join(f"{axis} {one.names(axis)[at]}" for axis, at in zip(one.axes, place, strict=True))
        row |= {
            "mean_absolute_change": float(np.abs(change[known]).mean()),
            "largest_change": float(change[place]),
            "where": where,
        }
    a, b = (side.values.astype(np.float64)[known] for side in (one, other))
    row["correlation"] = pearson(a, b) if a.size > 1 and a.std() > 0 and b.std() > 0 else None
    return row


def _scalars(first: Result, second: Result) -> list[dict[str, Any]]:
    rows = []
    for name in [name for name in first.scalars if name in second.scalars]:
        a, b = first.scalars[name], second.scalars[name]
        numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (a, b))
        rows.append({"scalar": name, "first": a, "second": b, "change": b - a if numbers else None})
    return rows


def _views(first: Result, alike: dict[str, tuple[Named, Named]]) -> Iterator[View]:
    """The pictures of the first result, for both sides and the change."""
    for view in first.views:
        if isinstance(view, Heatmap) and view.array in alike:
            for place, side in enumerate(_SIDES):
                select = {**(view.select or {}), "run": place}
                yield replace(view, title=f"{view.title or view.array}: {side}", select=select)
            yield replace(view, array=f"{view.array}_change", title="Change, second minus first", diverging=True)
        elif isinstance(view, Lines | Bars) and len(view.arrays) == 1 and not view.series and view.arrays[0] in alike:
            yield replace(view, series="run", lower=(), upper=())


def _told(result: Result) -> str:
    return str(result.model.get("name", ""))


def _finding(changes: list[dict[str, Any]], scalars: list[dict[str, Any]]) -> str:
    known = [row for row in changes if row["largest_change"] is not None]
    if known:
        row = max(known, key=lambda row: abs(row["largest_change"]))
        return (
            f"The largest change is {row['largest_change']:+.3g} in {row['array']} at {row['where']} "
            f"(mean absolute change {row['mean_absolute_change']:.3g} over {row['cells']:,} cells)."
        )
    moved = sum(row["first"] != row["second"] for row in scalars)
    return f"{moved} of {len(scalars)} single values differ; no array has the same shape in both."


def _notes(first: Result, second: Result, unlike: list[str]) -> tuple[str, ...]:
    notes = [f"First: {_told(first)}. {first.finding}", f"Second: {_told(second)}. {second.finding}"]
    told = (("model", first.model, second.model), ("inputs", first.inputs, second.inputs))
    for name, one, other in (*told, ("settings", first.params, second.params)):
        notes.append(f"The {name} {'are the same' if one == other else 'differ'}.")
    if unlike:
        notes.append(f"Not compared, since they are missing or of another shape on one side: {', '.join(unlike)}.")
    return tuple(notes)
