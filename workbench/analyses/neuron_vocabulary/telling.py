"""What the decoded neurons say: which are specialised, arrays, tables, views, checks and the finding."""

import numpy as np
from torch import Tensor

from workbench.analyses.neuron_vocabulary.judging import Verdict
from workbench.analyses.neuron_vocabulary.reading import Decoded, side_by_side
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Bars, Heatmap, Lines, Scatter, Table, View
from workbench.vocabulary import Extremes

_STEPS = {"1%": 0.01, "10%": 0.1, "50%": 0.5, "90%": 0.9, "95%": 0.95, "99%": 0.99, "99.9%": 0.999, "100%": 1.0}
_SHOWN = 5
_DRAWN = 5000
_WORDS = {"read": "reads", "gate": "is opened by", "write": "writes"}


def tell(model: Model, decoded: Decoded, listed: int, quantile: float) -> Result:
    """The result of one decoded plan."""
    verdict = Verdict.of(decoded, quantile)
    order = verdict.peak.argsort(descending=True, stable=True)[:listed].tolist()
    tables = {
        "neurons": _neuron_rows(model, decoded, verdict, order),
        "layers": _layer_rows(decoded, verdict, quantile),
        "hubs": _hub_rows(model, decoded),
    }
    return Result(
        arrays=_arrays(decoded, verdict, quantile),
        tables=tables,
        scalars=_scalars(decoded, verdict, quantile, tables),
        views=_views(len(decoded.plan.layers)),
        finding=_finding(decoded, verdict, quantile, tables),
        notes=_notes(model, decoded, quantile),
        checks=(
            Check("z of sampled neurons against the slow definition, largest error", decoded.gaps[0], 1e-3),
            Check("tokens of sampled neurons against a full sort, behind by (z)", decoded.gaps[1], 1e-4),
        ),
    )


def _place(decoded: Decoded, row: int) -> tuple[int, int]:
    layer, neuron = divmod(row, len(decoded.plan.neurons))
    return decoded.plan.layers[layer], decoded.plan.neurons[neuron]


def _neuron_rows(model: Model, decoded: Decoded, verdict: Verdict, order: list[int]) -> list[dict[str, object]]:
    """The farthest neurons with their tokens, and beside them what they do in every other direction."""
    found = decoded.neurons.tokens
    places = [_place(decoded, row) for row in order]
    beside = side_by_side(model, decoded, places, min(_SHOWN, found.promoted.shape[1]))
    rows: list[dict[str, object]] = []
    for number, (row, (layer, neuron)) in enumerate(zip(order, places, strict=True)):
        down = bool(found.downward[row])
        ends = (found.suppressed[row], found.promoted[row]) if down else (found.promoted[row], found.suppressed[row])
        kind = "family" if verdict.family[row] else "word" if verdict.specialised[row] else "-"
        rows.append(
            {
                "neuron": f"L{layer}.N{neuron}",
                "token": _texts(model, ends[0][:1]),
                "z": float(-verdict.peak[row] if down else verdict.peak[row]),
                "p_value": float(verdict.p_value[row]),
                "specialised": kind,
                "coherence": float(verdict.coherence[row]),
                "tokens": _texts(model, ends[0]),
                "other_end": _texts(model, ends[1]),
                **{_WORDS[name].replace(" ", "_"): _both(model, one, number) for name, one in beside.items()},
                "layer": layer,
                "number": neuron,
            }
        )
    return rows


def _both(model: Model, found: Extremes, row: int) -> str:
    """The tokens of the farther end, behind a sign."""
    sign = "-" if found.downward[row] else "+"
    return f"{sign} {_texts(model, found.farther[row])}"


def _texts(model: Model, ids: Tensor) -> str:
    return " ".join(repr(model.tokenizer.decode([index])) for index in ids.tolist())


def _layer_rows(decoded: Decoded, verdict: Verdict, quantile: float) -> list[dict[str, object]]:
    """How many neurons of each layer beat the null, and how many random directions would."""
    count = len(decoded.plan.neurons)
    starts = np.cumsum((0, *decoded.null_layers))
    null = decoded.null.tokens.peak.numpy()
    rows: list[dict[str, object]] = []
    for place, layer in enumerate(decoded.plan.layers):
        own = slice(place * count, (place + 1) * count)
        like = null[starts[place] : starts[place + 1]]
        rows.append(
            {
                "layer": layer,
                "neurons": count,
                "specialised": int(verdict.specialised[own].sum()),
                "families": int(verdict.family[own].sum()),
                "by_chance": (1 - quantile) * count,
                "median_peak": float(verdict.peak[own].median()),
                "median_null": float(np.median(like)) if len(like) else 0.0,
                "idle": int(decoded.idle[own].sum()),
            }
        )
    return rows


def _hub_rows(model: Model, decoded: Decoded) -> list[dict[str, object]]:
    """Tokens that are farthest for the most neurons."""
    alive = decoded.neurons.tokens.farther[:, 0][~decoded.idle]
    ids, counts = alive.unique(return_counts=True)
    order = counts.argsort(descending=True, stable=True)[:20].tolist()
    total = max(len(alive), 1)
    return [
        {
            "token": repr(model.tokenizer.decode([int(ids[one])])),
            "neurons": int(counts[one]),
            "share": float(counts[one] / total),
        }
        for one in order
    ]


def _arrays(decoded: Decoded, verdict: Verdict, quantile: float) -> dict[str, Named]:
    plan, found = decoded.plan, decoded.neurons.tokens
    size = len(plan.layers), len(plan.neurons)
    labels = {"layer": tuple(map(str, plan.layers)), "neuron": tuple(map(str, plan.neurons))}
    by_rank = {"promoted": "token id", "suppressed": "token id", "promoted_z": "z", "suppressed_z": "z"}
    by_neuron = {"peak": "z", "p_value": "probability", "coherence": "cosine", "specialised": ""}
    arrays = {
        name: Named(getattr(found, name).reshape(*size, -1).numpy(), ("layer", "neuron", "rank"), unit, labels)
        for name, unit in by_rank.items()
    }
    for name, unit in by_neuron.items():
        arrays[name] = Named(getattr(verdict, name).reshape(size).numpy(), ("layer", "neuron"), unit, labels)
    own = {"layer": labels["layer"]}
    share = verdict.specialised.reshape(size).float().mean(1).numpy()
    arrays["share"] = Named(share, ("layer",), "share of neurons", own)
    arrays["chance"] = Named(np.full(size[0], 1 - quantile, np.float32), ("layer",), "share of neurons", own)
    arrays["null_peak"] = Named(verdict.null.numpy(), ("example",), "z")
    for name, peaks in (("peak_quantile", verdict.peak), ("null_quantile", verdict.null)):
        values = np.quantile(peaks.numpy(), list(_STEPS.values())).astype(np.float32)
        arrays[name] = Named(values, ("step",), "z", {"step": tuple(_STEPS)})
    return arrays


def _scalars(decoded: Decoded, verdict: Verdict, quantile: float, tables: dict[str, list[dict]]) -> dict[str, object]:
    total = len(verdict.peak)
    return {
        "neurons": total,
        "specialised": int(verdict.specialised.sum()),
        "families": int(verdict.family.sum()),
        "by_chance": (1 - quantile) * total,
        "threshold": verdict.threshold,
        "coherence_threshold": verdict.alike,
        "fold": decoded.plan.fold,
        "tokens": len(decoded.vocabulary.ids),
        "top_neuron": tables["neurons"][0]["neuron"],
    }


def _finding(decoded: Decoded, verdict: Verdict, quantile: float, tables: dict[str, list[dict]]) -> str:
    best, total, count = tables["neurons"][0], len(verdict.peak), int(verdict.specialised.sum())
    does = _WORDS[decoded.plan.direction] + (" against" if best["z"] < 0 else "")
    return (
        f"{count:,} of {total:,} neurons ({100 * count / total:.1f}%) have a token farther out than "
        f"{100 * quantile:g}% of random directions (z {verdict.threshold:.1f}), where {(1 - quantile) * total:.1f} "
        f"would by chance; farthest is {best['neuron']}, which {does} {best['token']} (z {best['z']:.1f})."
    )


def _notes(model: Model, decoded: Decoded, quantile: float) -> tuple[str, ...]:
    plan = decoded.plan
    passed = {
        "none": "through no norm, as the weights stand",
        "final": "through the final norm",
        "all": "through the MLP's own norm, where it has one, and the final one",
    }[plan.fold]
    left_out = model.shape.d_vocab - len(decoded.vocabulary.ids)
    draws = len(decoded.null.coherence)
    notes = [
        f"Each row goes to the unembedding {passed}; its bias, a scale and a soft cap of the logits are left out.",
        f"Null: {draws} random mixtures of the rows of the same layers, which have their covariance; both ends count.",
    ]
    if left_out:
        notes.append(
            f"{left_out:,} rows of the unembedding are no tokens of a text (special, unused) and are left out."
        )
    if draws * (1 - quantile) < 1:
        notes.append(f"{draws} draws cannot tell the {quantile:g} quantile from their largest: draw more.")
    if idle := int(decoded.idle.sum()):
        notes.append(f"{idle:,} neurons are rows of zeros: their z is 0 and their tokens mean nothing.")
    return tuple(notes)


def _views(layers: int) -> tuple[View, ...]:
    spread = Lines(
        ("peak_quantile", "null_quantile"),
        x="step",
        title="Farthest token of neurons and of random directions",
        caption="z at the quantiles of both: above the null's line neurons stand out.",
    )
    listed = ("neuron", "z", "p_value", "specialised", "coherence", "tokens", "other_end")
    views: list[View] = [Table("neurons", columns=listed, title="The farthest neurons, and their tokens"), spread]
    if layers > 1:
        views.append(Bars(("share", "chance"), x="layer", title="Share of specialised neurons"))
    return (
        *views,
        Scatter(
            "z", "coherence", table="neurons", label="neuron", title="How alike the tokens of each listed neuron are"
        ),
        Heatmap("peak", x="neuron", y="layer", title="Farthest z of every neuron"),
        Table("neurons", title="What the same neurons read, are opened by, and write"),
        Table("hubs", title="Tokens that are farthest for many neurons"),
        Table("layers", title="Layers"),
    )
