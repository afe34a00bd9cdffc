"""What the measurements say: arrays, tables, pictures, checks and a sentence."""

from collections.abc import Collection
from typing import Any

import numpy as np

from workbench.analyses.transcoder_quality import pareto
from workbench.analyses.transcoder_quality.measuring import Measured
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Heatmap, Lines, Scatter, Table, View

_PERCENTILES = 101
_FEW_TOKENS = 10_000
_HARMLESS = 1e-3
"""Where zero ablation costs less than this many nats, the share of it that is recovered says nothing."""


def tell(model: Model, measured: Measured, top: int) -> Result:
    """The result of a measurement; `top` densest features of each layer are listed."""
    arrays = _arrays(measured)
    rows = _quality(measured, arrays)
    densest = _densest(measured, top)
    tables = {"quality": rows} | ({"densest_features": densest} if densest else {})
    if len(measured.conditions.sets) > 1:
        tables["pareto"] = pareto.fronts(rows)
    return Result(
        arrays=arrays,
        tables=tables,
        scalars=_scalars(rows[-1], measured),
        views=_views(measured, tables),
        finding=_finding(measured, rows, arrays),
        notes=_notes(model, measured, arrays),
        checks=_checks(measured),
    )


def _arrays(measured: Measured) -> dict[str, Named]:
    conditions = measured.conditions
    layers = tuple(map(str, conditions.layers))
    groups = layers if len(conditions.groups) == len(layers) else (*layers, "all")
    sets = {"component": tuple(one.name for one in conditions.sets), "layer": layers}
    tallies = [list(by_layer.values()) for by_layer in measured.tallies]
    unexplained = np.array([[tally.unexplained for tally in row] for row in tallies])
    loss = (measured.loss / measured.tokens).numpy()
    zero, harm = loss[1], loss[1] - loss[0]
    recovered = np.where(harm > _HARMLESS, (zero - loss[2:]) / np.where(harm == 0, 1, harm), np.nan)
    density = [
        [np.percentile(tally.density.cpu().numpy(), np.linspace(0, 100, _PERCENTILES)) for tally in row]
        for row in tallies
    ]
    axes, ways = ("component", "layer"), {"component": tuple(conditions.names), "layer": groups}
    dead = np.array([[float((tally.active == 0).double().mean()) for tally in row] for row in tallies])
    found = {
        "l0": Named(np.array([[tally.l0 for tally in row] for row in tallies]), axes, "features", sets),
        "explained_variance": Named(1 - unexplained, axes, "share of variance", sets),
        "unexplained": Named(unexplained, axes, "share of variance", sets),
        "dead": Named(dead, axes, "share of features", sets),
        "cross_entropy": Named(loss, axes, "nats", ways),
        "kl": Named((measured.kl / measured.tokens).numpy(), axes, "nats", ways),
        "loss_recovered": Named(recovered, axes, "share", {**ways, "component": tuple(conditions.names[2:])}),
    }
    percent = tuple(map(str, range(_PERCENTILES)))
    found["density"] = Named(np.array(density), (*axes, "rank"), "share of tokens", {**sets, "rank": percent})
    return found


def _quality(measured: Measured, arrays: dict[str, Named]) -> list[dict[str, Any]]:
    """One row for each set of coders and each layer, and one for all layers together; the last is a set's whole."""
    rows: list[dict[str, Any]] = []
    labels = arrays["cross_entropy"].labels["layer"]
    for number, one in enumerate(measured.conditions.sets):
        for column, layer in enumerate(labels):
            alone = column < len(measured.conditions.layers)
            local = {name: arrays[name].values[number] for name in ("l0", "explained_variance", "dead")}
            losses = {
                "cross_entropy": arrays["cross_entropy"].values[3 + number, column],
                "original": arrays["cross_entropy"].values[0, column],
                "zero_ablation": arrays["cross_entropy"].values[1, column],
                "mean_ablation": arrays["cross_entropy"].values[2, column],
                "loss_recovered": arrays["loss_recovered"].values[1 + number, column],
                "kl": arrays["kl"].values[3 + number, column],
            }
            numbers = {name: values[column] if alone else values.mean() for name, values in local.items()} | losses
            row: dict[str, Any] = {"coders": one.name, "layer": layer}
            rows.append(row | {name: _number(value) for name, value in numbers.items()})
    return rows


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _densest(measured: Measured, top: int) -> list[dict[str, Any]]:
    """The features of each layer that are active most often."""
    rows: list[dict[str, Any]] = []
    for one, tallies in zip(measured.conditions.sets, measured.tallies, strict=True):
        for layer, tally in tallies.items():
            best = tally.density.topk(min(top, tally.width))
            for share, feature in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                rows.append({"coders": one.name, "layer": layer, "feature": feature, "density": share})
    return rows


def _scalars(whole: dict[str, Any], measured: Measured) -> dict[str, Any]:
    """The numbers of the last set with all layers replaced, and which weights they belong to."""
    wanted = ("coders", "l0", "explained_variance", "dead", "cross_entropy", "original", "loss_recovered", "kl")
    found = {name: whole[name] for name in wanted}
    return found | {"fingerprint": measured.conditions.sets[-1].fingerprint, "tokens": measured.tokens}


def _finding(measured: Measured, rows: list[dict[str, Any]], arrays: dict[str, Named]) -> str:
    """One sentence for each set, on the run in which all its layers are replaced."""
    loss = arrays["cross_entropy"].values[:, -1]
    count = len(measured.conditions.layers)
    what = "all layers replaced" if count > 1 else f"layer {measured.conditions.layers[0]} replaced"
    said = []
    for number, one in enumerate(measured.conditions.sets):
        row = rows[(number + 1) * len(measured.conditions.groups) - 1]
        recovered, explained = row["loss_recovered"], row["explained_variance"]
        share = "" if recovered is None else f", {100 * recovered:.1f} % of the loss recovered"
        variance = "" if explained is None else f" and {100 * explained:.1f} % of the variance"
        said.append(
            f"{one.name}: with {row['l0']:.1f} features a token{variance}, {what}, the cross-entropy goes "
            f"from {loss[0]:.3f} to {row['cross_entropy']:.3f} nats (zero ablation {loss[1]:.3f}, "
            f"mean ablation {loss[2]:.3f}){share}."
        )
    if len(said) > 1:
        said.append(pareto.sentence(pareto.fronts(rows), what))
    return " ".join(said)


def _views(measured: Measured, tables: Collection[str]) -> tuple[View, ...]:
    several = len(measured.conditions.layers) > 1
    views: list[View] = [
        Scatter(
            *("l0", "cross_entropy"),
            table="quality",
            colour="explained_variance",
            label="layer",
            title="Sparsity against the loss with the coder in place",
            caption="Down and to the left is better; each point is one layer replaced alone, or all at once.",
        ),
        Bars("cross_entropy", x="layer", series="component", title="Cross-entropy with the layer replaced"),
        Bars("loss_recovered", x="layer", series="component", title="Loss recovered, beside mean ablation"),
    ]
    if "pareto" in tables:
        views += pareto.views()
    if several:
        views += [
            Lines("explained_variance", x="layer", series="component", title="Explained variance"),
            Lines("l0", x="layer", series="component", title="Features active on a token (L0)"),
        ]
    views += [
        Heatmap("density", x="rank", y="layer", title="Feature density by percentile of the features"),
        Table("quality", rows=2 * len(measured.conditions.groups), title="All numbers"),
    ]
    if "densest_features" in tables:
        views.append(Table("densest_features", title="Features that are active most often"))
    return tuple(views)


def _notes(model: Model, measured: Measured, arrays: dict[str, Named]) -> tuple[str, ...]:
    notes = [f"Scored on {measured.tokens} tokens; a dead feature is one that is active on none of them."]
    if measured.tokens < _FEW_TOKENS:
        notes.append(f"With fewer than {_FEW_TOKENS} tokens, the share of dead features says little.")
    if measured.conditions.since:
        notes.append("The first position of every text is left as it is and not scored.")
    for one in measured.conditions.sets:
        trained_on = str(one.card.get("model", ""))
        if trained_on and trained_on.split("/")[-1] not in model.name:
            notes.append(f"The files of {one.name} say that they belong to {trained_on}, this is {model.name}.")
    if any(np.isnan(named.values).any() for named in arrays.values()):
        notes.append(
            f"NaN stands where there is nothing to explain, or where zero ablation costs under {_HARMLESS} nats."
        )
    return tuple(notes)


def _checks(measured: Measured) -> tuple[Check, ...]:
    """With the error kept nothing may change, and no replaced run may be nearer to the plain one than itself."""
    return (
        Check("logits with the coders attached and their error kept, against the plain ones", measured.attached_gap, 0),
        Check("KL is nowhere below 0, in nats", float((-measured.kl).max()) / measured.tokens, 1e-6),
    )
