"""What the comparison says: overlap in all, by layer and by stratum, views, checks and the finding."""

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from workbench.analyses.neuron_overlap.comparing import Compared
from workbench.result import Check, Named, Result
from workbench.views import Bars, Lines, Scatter, Table, View

_CUTS = (0.5, 0.9, 0.99, 0.999)
_LISTED = 30


def tell(compared: Compared) -> Result:
    """The result of one comparison."""
    strata = _strata(compared)
    rows = _stratum_rows(compared, strata)
    scalars = _scalars(compared, rows)
    return Result(
        arrays=_arrays(compared, rows),
        tables={"strata": rows, "layers": _layer_rows(compared), "changed": _changed_rows(compared)},
        scalars=scalars,
        views=_views(compared),
        finding=_finding(compared, scalars),
        notes=_notes(compared),
        checks=(
            Check("the noise is as long as the change, relative", compared.noise_gap, 1e-4),
            Check("tokens of sampled neurons against a full sort, behind by (z)", compared.sort_gap, 1e-4),
        ),
    )


def _strata(compared: Compared) -> dict[str, Bool[Tensor, "layer neuron"]]:
    """Neurons by how far out their top token is, cut at quantiles of random directions."""
    cuts = [-np.inf, *np.quantile(compared.null_z.numpy(), _CUTS), np.inf]
    edges = ["0%", *(f"{100 * cut:g}%" for cut in _CUTS), ""]
    names = [f"{low}-{high}" if high else f"beyond {low}" for low, high in zip(edges, edges[1:], strict=False)]
    pairs = zip(cuts, cuts[1:], strict=False)
    return {name: (compared.z > low) & (compared.z <= high) for name, (low, high) in zip(names, pairs, strict=True)}


def _mean(values: Tensor, mask: Tensor) -> float:
    """Mean of the chosen values; NaN if there are none."""
    return float(values[mask].float().mean())


def _stratum_rows(compared: Compared, strata: dict[str, Bool[Tensor, "layer neuron"]]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, mask in strata.items():
        row: dict[str, object] = {"random_directions": name, "neurons": int(mask.sum())}
        row["change"] = _or_none(_mean(compared.change, mask))
        for number, version in enumerate(compared.versions):
            row[f"kept_{version}"] = _or_none(_mean(compared.kept[number], mask))
            row[f"shared_{version}"] = _or_none(_mean(compared.shared[number], mask))
        rows.append(row)
    return rows


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def _layer_rows(compared: Compared) -> list[dict[str, object]]:
    return [
        {
            "layer": layer,
            "change": float(compared.change[place].mean()),
            **{f"kept_{name}": float(one[place].float().mean()) for name, one in _by_version(compared, "kept")},
            **{f"shared_{name}": float(one[place].mean()) for name, one in _by_version(compared, "shared")},
        }
        for place, layer in enumerate(compared.pair.layers)
    ]


def _by_version(compared: Compared, what: str) -> list[tuple[str, Tensor]]:
    return list(zip(compared.versions, getattr(compared, what), strict=True))


def _changed_rows(compared: Compared) -> list[dict[str, object]]:
    """Neurons that lost the farthest tokens, by the first version."""
    lost = compared.z.masked_fill(compared.kept[0], -torch.inf).flatten()
    order = [one for one in lost.argsort(descending=True, stable=True)[:_LISTED].tolist() if lost[one] > -torch.inf]
    count, tokenizer = compared.z.shape[1], compared.pair.base.tokenizer
    return [
        {
            "neuron": f"L{compared.pair.layers[one // count]}.N{one % count}",
            "z": float(compared.z.flatten()[one]),
            "before": repr(tokenizer.decode([int(compared.tokens.flatten()[one])])),
            "after": repr(tokenizer.decode([int(compared.new_tokens.flatten()[one])])),
            "change": float(compared.change.flatten()[one]),
        }
        for one in order
    ]


def _chance(compared: Compared) -> float:
    """Share of pairs of different neurons that have the same top token."""
    counts = compared.tokens.flatten().unique(return_counts=True)[1].double()
    total = float(counts.sum())
    return float((counts * (counts - 1)).sum() / max(total * (total - 1), 1))


def _arrays(compared: Compared, rows: list[dict]) -> dict[str, Named]:
    layers = tuple(map(str, compared.pair.layers))
    labels = {"component": compared.versions, "layer": layers}
    strata = {"component": compared.versions, "step": tuple(row["random_directions"] for row in rows)}
    arrays = {"change": Named(compared.change.numpy(), ("layer", "neuron"), "share of the row", {"layer": layers})}
    for what in ("kept", "shared"):
        values = getattr(compared, what).float()
        arrays[what] = Named(values.mean(2).numpy(), ("component", "layer"), "share", labels)
        table = [[row[f"{what}_{version}"] for row in rows] for version in compared.versions]
        cut = np.array(table, dtype=np.float32)  # None becomes NaN
        arrays[f"{what}_by_stratum"] = Named(cut, ("component", "step"), "share", strata)
    return arrays


def _scalars(compared: Compared, rows: list[dict]) -> dict[str, object]:
    scalars: dict[str, object] = {
        "neurons": compared.z.numel(),
        "change": float(compared.change.mean()),
        "chance": _chance(compared),
        "specialised": rows[-1]["neurons"],
        "fold": compared.pair.fold,
        "unembedding_change": compared.unembedding_change,
    }
    for what in ("kept", "shared"):
        for version, values in _by_version(compared, what):
            scalars[f"{what}_{version}"] = float(values.float().mean())
            scalars[f"specialised_{what}_{version}"] = rows[-1][f"{what}_{version}"]
    if compared.pair.other is not None:
        scalars["other"] = compared.pair.other.name
        scalars["other_fingerprint"] = compared.pair.other.fingerprint
    return scalars


def _finding(compared: Compared, scalars: dict) -> str:
    change, noisy = 100 * scalars["change"], 100 * scalars["kept_noise"]
    if compared.pair.other is None:
        said = (
            f"Noise of {change:.1f}% of each row leaves {noisy:.1f}% of {scalars['neurons']:,} neurons their top token"
        )
    else:
        said = (
            f"{100 * scalars['kept_tuned']:.1f}% of {scalars['neurons']:,} neurons keep their top token in "
            f"{compared.pair.other.name} (rows change by {change:.1f}% on average), "
            f"where noise as long as the change leaves {noisy:.1f}%"
        )
    if not scalars["specialised"]:
        return f"{said}; no neuron is farther out than 99.9% of random directions."
    kept = " and ".join(
        f"{100 * scalars[f'specialised_kept_{version}']:.1f}%{' with noise' if version == 'noise' else ''}"
        for version in compared.versions
    )
    return f"{said}; of the {scalars['specialised']:,} farther out than 99.9% of random directions {kept} keep it."


def _notes(compared: Compared) -> tuple[str, ...]:
    notes = [
        f"Strata: by the z of the base's top token, cut at quantiles of {len(compared.null_z)} random mixtures of the "
        "rows of the same layers; NaN where a stratum is empty.",
        "Two different neurons have the same top token in the share of pairs given as `chance`.",
    ]
    if compared.pair.other is None:
        notes.append("No other model was named: this is what noise alone does.")
    elif compared.pair.through == "own":
        moved = 100 * (compared.unembedding_change or 0)
        notes.append(
            f"Tuned rows go through the tuned unembedding, which moved by {moved:.1f}%; the noise shakes rows only."
        )
    else:
        notes.append("Tuned rows go through the base's norms and unembedding: only the neurons' rows differ.")
    return tuple(notes)


def _views(compared: Compared) -> tuple[View, ...]:
    views: list[View] = [
        Bars(
            "kept_by_stratum",
            x="step",
            series="component",
            title="Neurons that keep their top token",
            caption="By how far out the token was, in quantiles of random directions.",
        ),
        Lines("kept", x="layer", series="component", title="Neurons that keep their top token, by layer"),
        Lines("shared", x="layer", series="component", title="Share of the top tokens that stay among them"),
        Table("strata", title="By how far out the top token was"),
        Table("layers", title="Layers"),
    ]
    if not compared.kept[0].all():
        views.insert(3, Table("changed", title="The farthest tokens that were lost"))
        views.append(Scatter("z", "change", table="changed", label="neuron", title="Lost tokens, and the change"))
    return tuple(views)
