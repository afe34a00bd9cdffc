"""What the analysis says: which heads rest, where, on what, and what they are good for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.analyses.attention_sinks.heads import Found
from workbench.analyses.attention_sinks.reading import HALF
from workbench.analyses.attention_sinks.resting import Changes
from workbench.analyses.attention_sinks.texts import CONTROLS, RANDOM, SAME
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Heatmap, Lines, Table, Tokens, View

_LISTED = 20
_NORMS = ("the sink token", "others, median", "others, largest")
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def tell(model: Model, found: Found, notable: Changes, others: Changes) -> Result:
    """The result.

    Args:
        model: the model.
        found: what the texts say.
        notable: the changes of the loss without the notable heads.
        others: the same of the random ones.
    """
    rows = _rows(found, notable, others)
    rests = int((found.sink.nan_to_num().mean(0) > HALF).sum())
    controls = found.mean("sink", CONTROLS).nan_to_num().mean(dim=(1, 2)).tolist()
    return Result(
        arrays=_arrays(model, found, {**notable, **others}),
        tables={"heads": rows},
        scalars={
            "sink": float(found.sink.nanmean()),
            "heads that rest": rests,
            "heads": found.spread.numel(),
            "even": float(found.mean("even", found.texts.kinds).nanmean()),
            **{f"sink on {name}": value for name, value in zip(CONTROLS, controls, strict=True)},
            "listed first": rows[0]["head"],
        },
        views=_views(found, bool(notable)),
        finding=_finding(found, rests, controls, rows[0], notable),
        notes=_notes(model, found),
        checks=(
            Check("rows of attention sum to one, largest error", max(_every(found, "gap")), 1e-2),
            Check("what the sink token is written as differs between texts by", _gap(found), _TOLERANCE[model.dtype]),
        ),
    )


def _every(found: Found, name: str) -> list[Any]:
    return [getattr(one, name) for some in found.readings.values() for one in some]


def _gap(found: Found) -> float:
    """The largest relative difference between texts that are the same up to the sink token."""
    position = found.texts.position
    alike: dict[tuple[int, ...], Tensor] = {}
    gap = 0.0
    written = _every(found, "written")
    order = [row for kind in found.readings for one, row in found.texts.rows if one == kind]
    for row, lengths in zip(order, written, strict=True):
        first = alike.setdefault(row[: position + 1], lengths[..., position])
        difference = (first - lengths[..., position]).abs() / lengths.amax(-1).clamp_min(1e-30)
        gap = max(gap, float(difference.max()))
    return gap


def _arrays(model: Model, found: Found, changes: Changes) -> dict[str, Named]:
    every = (*found.texts.kinds, *CONTROLS)
    labels = {"component": every}
    if found.layers != tuple(range(model.shape.n_layers)):
        labels["layer"] = tuple(map(str, found.layers))
    lost = torch.full_like(found.sink, torch.nan)
    for head, by_kind in changes.items():
        for number, kind in enumerate(found.texts.kinds):
            lost[(number, *found.place(head))] = by_kind[kind]
    heads, layers = ("component", "layer", "head"), ("component", "layer")
    plain = {**labels, "component": found.texts.kinds}
    grids = {
        "sink": (found.mean("sink", every), heads, "attention", labels),
        "dormancy": (found.mean("dormancy", every), heads, "share of the queries", labels),
        "even": (found.mean("even", every), layers, "attention", labels),
        "drain": (found.drain, heads[1:], "ratio", _only(labels, "layer")),
        "norm": (found.norms, layers, "length of the stream", {"component": _NORMS}),
        "received": (found.plain[0].received, ("layer", "pos"), "attention", {"pos": found.texts.words}),
        "loss_change": (lost, heads, "nats", plain),
    }
    return {name: Named(values.float().numpy(), axes, unit, told) for name, (values, axes, unit, told) in grids.items()}


def _only(labels: Mapping[str, tuple[str, ...]], axis: str) -> dict[str, tuple[str, ...]]:
    return {name: texts for name, texts in labels.items() if name == axis}


def _rows(found: Found, notable: Changes, others: Changes) -> list[dict[str, Any]]:
    """The heads whose rest differs most, and the random ones."""
    drain, random = found.drain, found.mean("sink", [RANDOM])[0]
    even = found.mean("even", found.texts.kinds).nanmean(0)
    sink, ranked = found.sink, found.ranked()
    rows = []
    for head in [*ranked[:_LISTED], *(one for one in others if one not in ranked[:_LISTED])]:
        place = found.place(head)
        changes = notable.get(head, others.get(head, {}))
        rows.append(
            {
                "head": f"L{head[0]}.H{head[1]}",
                "rests": found.kind_of(head),
                "taken as": "notable" if head in notable else "random" if head in others else "",
                **{kind: float(sink[(number, *place)]) for number, kind in enumerate(found.texts.kinds)},
                RANDOM: float(random[place]),
                "even": float(even[place[0]]),
                "drain": float(drain[place]),
                **{f"loss change, {kind}": changes.get(kind) for kind in found.texts.kinds},
            }
        )
    return [{name: _known(value) for name, value in row.items()} for row in rows]


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _finding(found: Found, rests: int, controls: list[float], first: dict[str, Any], notable: Changes) -> str:
    word = found.texts.words[found.texts.position]
    even = float(found.mean("even", found.texts.kinds).nanmean())
    told = (
        f"{rests} of {found.spread.numel()} heads put more than half of their attention on {word!r}; all heads "
        f"{float(found.sink.nanmean()):.2f} on average (spread evenly it would be {even:.2f}; {controls[0]:.2f} on "
        f"{RANDOM}, {controls[1]:.2f} on {SAME})."
    )
    kinds = found.texts.kinds
    values = ", ".join(f"{first[kind]:.2f} on {kind}" for kind in kinds if first[kind] is not None)
    told += f" {first['head']} {'rests most differently' if len(kinds) > 1 else 'rests most'}: {values}"
    if not notable:
        return f"{told}."
    lost = ", ".join(f"{first[f'loss change, {kind}']:+.2f} nats on {kind}" for kind in kinds)
    return f"{told}; without it the loss changes by {lost}."


def _notes(model: Model, found: Found) -> tuple[str, ...]:
    notes = ["loss_change is NaN for heads that were left as they are."]
    if bool(found.drain.isnan().any()):
        notes.append("drain is NaN for heads that write nothing of other tokens.")
    if any(bool(one.isnan().any()) for one in _every(found, "sink")):
        notes.append("sink is NaN where no query sees the sink token: a window hides it.")
    if found.layers != tuple(range(model.shape.n_layers)):
        notes.append(f"Only the layers {', '.join(map(str, found.layers))} attend.")
    if len(found.texts.kinds) == 1:
        notes.append("All texts are of one kind: name a field of their meta as domain to compare kinds.")
    return tuple(notes)


def _views(found: Found, ablated: bool) -> tuple[View, ...]:
    views: list[View] = [
        Heatmap("sink", x="head", y="layer", title="Attention to the sink token"),
        Heatmap("drain", x="head", y="layer", title="What a head writes of it, over the median of the others"),
        Lines("norm", x="layer", series="component", log=True, title="Length of the stream"),
        Table("heads", title="The heads whose rest differs most"),
        Tokens("received", select={"layer": len(found.layers) // 2}, title="Attention received, in a middle layer"),
        Heatmap("received", x="pos", y="layer", title="Attention that each token receives from those behind it"),
    ]
    if len(found.texts.kinds) > 1:
        views.insert(
            1, Heatmap("sink", x="head", y="layer", select={"component": 1}, title="On the second kind of text")
        )
    if ablated:
        views.append(
            Heatmap("loss_change", x="head", y="layer", title="Change of the loss without a head", diverging=True)
        )
    return tuple(views)
