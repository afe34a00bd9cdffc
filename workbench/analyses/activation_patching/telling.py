"""What the analysis says: arrays, tables, views, checks and the finding."""

import numpy as np
import torch

from workbench.analyses.activation_patching.cases import UNITS
from workbench.analyses.activation_patching.collecting import (
    Grid,
    Places,
    Studied,
    find_places,
    head_grid,
    mean_gap,
    place_grid,
)
from workbench.analyses.activation_patching.comparing import rank_correlations
from workbench.analyses.activation_patching.estimating import INTEGRATED
from workbench.analyses.activation_patching.listing import (
    agreement_rows,
    head_at_rows,
    head_names,
    head_tables,
    ordered,
    pair_rows,
)
from workbench.analyses.activation_patching.patching import DENOISE, NOISE, NULL, STREAMS, Plan
from workbench.analyses.activation_patching.wording import finding, notes
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Scatter, Table, View

_SHARE = "share of the difference"
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 0.2, torch.float16: 0.05}


def tell(model: Model, studied: list[Studied], plan: Plan, own_gap: float, left_out: list[str], seed: int) -> Result:
    """The result of all pairs."""
    heads = head_grid(studied, plan.head_kind, seed) if plan.head_kind else None
    places = find_places(studied)
    grids = {kind: place_grid(studied, kind, places) for kind in plan.streams}
    names = head_names(plan, model.shape.n_layers)
    rows = [] if heads is None else agreement_rows(heads, "heads", names)
    for kind, grid in grids.items():
        labels = [[f"L{layer}.{kind}@{label}" for label in places.labels] for layer in range(model.shape.n_layers)]
        rows += agreement_rows(grid, kind, labels)
    tables = {"agreement": rows, "pairs": pair_rows(studied)}
    if heads is not None:
        tables = {**head_tables(heads, names), **tables}
    scalars = _scalars(studied, heads, names, grids)
    arrays = _arrays(studied, plan, heads, grids, places)
    if plan.apart:
        apart = [place_grid(studied, f"H{head}", places) for head in range(plan.heads)]
        arrays["head_at"] = _head_at(plan, apart, places)
        tables["heads at positions"] = head_at_rows(apart, names, places)
    holes = any(np.isnan(array.values).any() for array in arrays.values())
    return Result(
        arrays=arrays,
        tables=tables,
        scalars=scalars,
        views=_views(heads, plan, grids),
        finding=finding(studied, scalars, rows),
        notes=notes(studied, plan, places, left_out, holes),
        checks=_checks(model, studied, own_gap),
    )


def _arrays(
    studied: list[Studied], plan: Plan, heads: Grid | None, grids: dict[str, Grid], places: Places
) -> dict[str, Named]:
    arrays = {}
    unit = UNITS[studied[0].case.reading.metric]
    if heads is not None:
        axes = ("component", "layer", _head_axis(plan))
        labels = {"component": heads.measures}
        arrays["head"] = Named(heads.mean.astype(np.float32), axes, _SHARE, labels)
        for name, limit in zip(("lower", "upper"), heads.limits or (), strict=False):
            arrays[f"head_{name}"] = Named(limit, axes, _SHARE, labels)
        arrays["head_raw"] = Named(heads.raw.astype(np.float32), ("example", *axes), unit, labels)
        both = {"source_component": heads.measures, "target_component": heads.measures}
        arrays["rank_correlation"] = Named(rank_correlations(heads), tuple(both), "Spearman", both)
    for kind, grid in grids.items():
        labels = {"component": grid.measures, "pos": places.labels}
        axes = ("component", "layer", "pos")
        arrays[kind] = Named(grid.mean.astype(np.float32), axes, _SHARE, labels)
        arrays[f"{kind}_raw"] = Named(grid.raw.astype(np.float32), ("example", *axes), unit, labels)
    return arrays


def _head_at(plan: Plan, apart: list[Grid], places: Places) -> Named:
    """The effect of every head at every position."""
    axes = ("component", "layer", _head_axis(plan), "pos")
    mean = np.stack([grid.mean for grid in apart], axis=2).astype(np.float32)
    return Named(mean, axes, _SHARE, {"component": apart[0].measures, "pos": places.labels})


def _head_axis(plan: Plan) -> str:
    return "kv_head" if plan.head_kind in ("k", "v") else "head"


def _scalars(
    studied: list[Studied], heads: Grid | None, names: list[list[str]], grids: dict[str, Grid]
) -> dict[str, object]:
    scalars: dict[str, object] = {
        "pairs": len(studied),
        "clean": float(np.mean([one.patched.clean for one in studied])),
        "corrupt": float(np.mean([one.patched.corrupt for one in studied])),
        "difference": mean_gap(studied),
    }
    if heads is not None:
        for name in (DENOISE, NOISE):
            layer, head = ordered(-heads.of(name))[0]
            scalars[f"top_{name}"] = names[layer][head]
            scalars[f"top_{name}_share"] = float(heads.of(name)[layer, head])
        layer, head = ordered(heads.of(DENOISE))[0]
        scalars |= {"least_denoise": names[layer][head], "least_denoise_share": float(heads.of(DENOISE)[layer, head])}
        if NULL in heads.measures:
            scalars["random_pair_size"] = float(np.sqrt(np.square(heads.of(NULL)).mean()))
    if STREAMS[0] in grids:
        arrived = grids[STREAMS[0]].of(DENOISE)[:, -1] >= 0.5  # the last column is always the last token
        scalars["arrived_at_layer"] = int(arrived.argmax()) if arrived.any() else None
    totals = [one.total for one in studied if one.total is not None]
    if totals:
        scalars["integrated_total"] = float(np.mean(totals)) / mean_gap(studied)
    return scalars


def _checks(model: Model, studied: list[Studied], own_gap: float) -> tuple[Check, ...]:
    tolerance, gap = _TOLERANCE[model.dtype], abs(mean_gap(studied))
    looped = sum(one.patched.looped for one in studied)
    return (
        Check("a run patched with itself keeps its logits", own_gap, 0),
        Check("the whole stream of the other run gives the other run", _worst(studied, "stream_gap") / gap, tolerance),
        Check(f"{looped} sampled patches by the plain loop", _worst(studied, "loop_gap") / gap, tolerance),
    )


def _worst(studied: list[Studied], name: str) -> float:
    return max(getattr(one.patched, name) for one in studied)


def _views(heads: Grid | None, plan: Plan, grids: dict[str, Grid]) -> tuple[View, ...]:
    views = [] if heads is None else _head_views(heads, _head_axis(plan))
    if plan.apart:
        views.append(Table("heads at positions", title="Heads at single positions"))
    for kind in grids:
        title = f"Denoise {kind}: what one position of the clean run brings back"
        views.append(Heatmap(kind, "pos", "layer", diverging=True, select={"component": 0}, title=title))
    return (*views, Table("agreement", rows=50, title="Where the measures disagree"), Table("pairs", title="Pairs"))


def _head_views(heads: Grid, axis: str) -> list[View]:
    shown = {
        DENOISE: "Denoise: what a clean head brings back in the corrupt run",
        NOISE: "Noise: what a corrupt head costs in the clean run",
        INTEGRATED: "Integrated gradients: the estimate of both",
    }
    maps = [
        Heatmap("head", axis, "layer", diverging=True, select={"component": heads.measures.index(name)}, title=title)
        for name, title in shown.items()
        if name in heads.measures
    ]
    points = [Scatter(DENOISE, NOISE, table="heads", label="head", title="Is enough, and is needed")]
    if INTEGRATED in heads.measures:
        points.append(Scatter(INTEGRATED, DENOISE, table="heads", label="head", title="Estimate and exact effect"))
    agree = "Do the measures agree?"
    return [
        *maps,
        *points,
        Table("heads", title="Heads under every measure"),
        Table("ranks", title="Ranks of the heads, 1 speaks most for the answer"),
        Table("correlations", title="Rank correlations of the measures (Spearman)"),
        Heatmap("rank_correlation", "target_component", "source_component", diverging=True, title=agree),
    ]
