"""Series: one analysis on several checkpoints of one model, in the order of training.

What is born between two checkpoints (a head that copies, a token that heads rest on) is a step in a curve.
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from workbench.named import Named
from workbench.result import Check, Result
from workbench.views import Heatmap, Lines, Table, View

SERIES = "series"
"""What the result calls its analysis, and the type of its input."""

_CURVES = 6
"""So many of the single values are drawn."""


def series(results: Mapping[int, Result]) -> Result:
    """Lay runs of one analysis on the checkpoints of one model side by side.

    Args:
        results: by training step; they differ in the checkpoint alone.

    Returns:
        A result as any other, to keep and to report. Arrays that have one shape in all runs gain an axis `step`;
        each single number becomes the array `<name> by step`; the table `steps` has one row a checkpoint.

    Raises:
        ValueError: there are fewer than two runs, they are of two analyses, models, inputs or settings, or they
            share no array of one shape and no number.
    """
    ordered = dict(sorted(results.items()))
    _refuse(list(ordered.values()))
    last = [*ordered.values()][-1]
    arrays = _stacked(ordered)
    curves = _curves(ordered)
    if not arrays and not curves:
        raise ValueError(f"these runs of {last.analysis} share no array of one shape and no number")
    revisions = {str(step): one.model.get("revision") for step, one in ordered.items()}
    told = {"analysis": last.analysis, "model": last.model, "inputs": last.inputs, "params": last.params}
    failed = sum(not one.passed for one in ordered.values())
    return Result(
        analysis=SERIES,
        title=f"{last.title}, over training",
        model={"name": last.model.get("name", "")},
        inputs={"runs": {"type": SERIES, **told, "revisions": revisions}},
        arrays=arrays | curves,
        tables={"steps": [{"step": step, **one.scalars} for step, one in ordered.items()]},
        views=tuple(_views(last, arrays, curves)),
        finding=_finding(curves),
        notes=_notes(last, arrays),
        checks=(Check("checkpoints whose own checks failed", failed, 0),),
        reference=last.reference,
    )


def series_key(results: Mapping[int, Result]) -> str:
    """What a store finds the series of these results by: a sha256 of all of them."""
    digest = hashlib.sha256(SERIES.encode())
    for step, one in sorted(results.items()):
        for name, content in one.files().items():
            digest.update(f"{step} {name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _refuse(results: list[Result]) -> None:
    if len(results) < 2:
        raise ValueError(f"a series needs two runs or more, found {len(results)}")
    first = results[0]
    for other in results[1:]:
        for word, one, same in (
            ("analyses", first.analysis, other.analysis),
            ("models", first.model.get("name"), other.model.get("name")),
            ("inputs", first.inputs, other.inputs),
            ("settings", first.params, other.params),
        ):
            if one != same:
                raise ValueError(f"a series is of one analysis on checkpoints of one model: two {word} were given")


def _stacked(results: Mapping[int, Result]) -> dict[str, Named]:
    """The arrays that have the same axes, shape and unit in all runs, along the steps."""
    *_, last = results.values()
    found = {}
    for name, array in last.arrays.items():
        given = [one.arrays[name] for one in results.values() if name in one.arrays]
        alike = [one for one in given if _form(one) == _form(array)]
        if len(alike) == len(results) and "step" not in array.axes:
            labels = {**array.labels, "step": tuple(map(str, results))}
            found[name] = Named(np.stack([one.values for one in alike]), ("step", *array.axes), array.unit, labels)
    return found


def _form(array: Named) -> tuple[object, ...]:
    return array.axes, array.values.shape, array.unit


def _curves(results: Mapping[int, Result]) -> dict[str, Named]:
    """The single numbers of the runs, along the steps."""
    *_, last = results.values()
    names = [name for name in last.scalars if all(_is_number(one.scalars.get(name)) for one in results.values())]
    steps = {"step": tuple(map(str, results))}
    return {
        f"{name} by step": Named(np.array([float(one.scalars[name]) for one in results.values()]), ("step",), "", steps)
        for name in names
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _views(last: Result, arrays: Mapping[str, Named], curves: Mapping[str, Named]) -> Iterator[View]:
    for name in [*curves][:_CURVES]:
        yield Lines(name, x="step", title=name.removesuffix(" by step").capitalize())
    for view in last.views:
        if isinstance(view, Heatmap) and view.array in arrays:
            array = arrays[view.array]
            title = view.title or view.array
            if array.axes == ("step", "layer", "head"):
                layer = _moving_layer(array)
                yield Lines(view.array, x="step", series="head", select={"layer": layer}, title=title)
            else:
                select = {**(view.select or {}), "step": array.values.shape[0] - 1}
                yield Heatmap(view.array, view.x, view.y, view.diverging, title=f"{title}: last", select=select)
    yield Table("steps", title="The checkpoints", rows=50)


def _moving_layer(array: Named) -> int:
    """The layer in which a head moves farthest."""
    values = np.nan_to_num(array.values.astype(np.float64))
    return int(np.ptp(values, axis=0).max(axis=1).argmax())


def _finding(curves: Mapping[str, Named]) -> str:
    """Where the first number of the analysis changes most."""
    if not curves:
        return "The runs have no single number in common."
    name, curve = next(iter(curves.items()))
    steps, values = curve.names("step"), curve.values
    place = int(np.abs(np.diff(values)).argmax())
    return (
        f"{name.removesuffix(' by step').capitalize()} changes most between step {steps[place]} ({values[place]:.3g}) "
        f"and step {steps[place + 1]} ({values[place + 1]:.3g}); it is {values[0]:.3g} at the first of {len(values)} "
        f"checkpoints and {values[-1]:.3g} at the last."
    )


def _notes(last: Result, arrays: Mapping[str, Named]) -> tuple[str, ...]:
    left = [name for name in last.arrays if name not in arrays]
    notes = [f"Last: {last.finding}", *last.notes]
    if left:
        notes.append(f"Left out, since they are of another shape at some steps: {', '.join(left)}.")
    return tuple(notes)
