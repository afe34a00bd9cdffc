"""The card itself: arrays, tables, views, checks and the finding."""

import numpy as np
import torch

from workbench.analyses.feature_card.picturing import picture
from workbench.analyses.feature_card.seeing import Seen
from workbench.analyses.feature_card.wires import Edges, Ends, Wires
from workbench.attribution import logit_scale
from workbench.features import EDGES, Excerpt
from workbench.model import Model
from workbench.result import Check, Named, Result

_QUANTILES = {"0%": 0.0, "10%": 0.1, "25%": 0.25, "50%": 0.5, "75%": 0.75, "90%": 0.9, "100%": 1.0}
_EXACT = (torch.float32, torch.float64)
_FEW_TOKENS = 10_000

Rows = list[dict[str, object]]


def tell(model: Model, seen: Seen, wires: Wires) -> Result:
    """The result of one card."""
    tables = {
        "examples": _example_rows(seen),
        "tokens": [row for ends in wires.ends for row in _token_rows(model, seen, ends)],
        "features_before": _edge_rows(seen, wires.before, wires.top),
        "features_after": _edge_rows(seen, wires.after, wires.top),
        "features_through_heads": _edge_rows(seen, wires.through_heads, wires.top),
        "similar": [
            {"feature": f"L{one.layer}.F{one.feature}", "cosine": one.cosine, "cosine of readings": one.reading_cosine}
            for one in wires.similar
        ],
        "heads": _head_rows(wires),
    }
    tables = {name: rows for name, rows in tables.items() if rows}
    strips = {f"strip_{number}": one for number, one in enumerate([*seen.strips, *seen.own])}
    return Result(
        arrays=_arrays(seen, wires, strips),
        tables=tables,
        scalars=_scalars(model, seen, wires),
        views=picture(seen, strips, set(tables), wires),
        finding=_finding(model, seen, wires),
        notes=_notes(seen, wires),
        checks=_checks(model, seen, wires),
    )


def _example_rows(seen: Seen) -> Rows:
    return [
        {
            "band": one.example.band,
            "activation": one.example.value,
            "token": one.text[one.at],
            "text": one.sentence,
            "place": one.example.place,
        }
        for one in seen.excerpts
    ]


def _token_rows(model: Model, seen: Seen, ends: Ends) -> Rows:
    """Both ends of one path; where it leads to the logits, with how far the largest activation moves them."""
    found = ends.tokens
    unit = ends.deviation * logit_scale(model) * seen.largest * seen.size
    sides = (
        ("up", found.promoted[0].tolist(), found.promoted_z[0].tolist()),
        ("down", found.suppressed[0].tolist(), found.suppressed_z[0].tolist()),
    )
    return [
        {
            "path": ends.path,
            "end": end,
            "rank": rank,
            "token": repr(model.tokenizer.decode([index])),
            "z": z,
            "beyond chance": abs(z) > ends.chance,
            "logits": z * unit if ends.path == "writes" else None,
        }
        for end, ids, values in sides
        for rank, (index, z) in enumerate(zip(ids, values, strict=True))
    ]


def _edge_rows(seen: Seen, edges: list[Edges], top: int) -> Rows:
    """The strongest edges of every layer, by weight and by mean effect, the strongest weight first."""
    rows: Rows = []
    for one in edges:
        for feature in one.strongest(top):
            weight, effect = float(one.weights[feature]), float(one.effects[feature])
            rows.append(
                {
                    "feature": f"L{one.layer}.F{feature}",
                    **({"through": one.through} if one.through else {}),
                    "weight": weight,
                    "usual effect": effect,
                    "mean effect": effect * float(one.shares[feature]),
                    "beyond chance": abs(weight) > one.chance,
                    "density": float(seen.index.density(one.layer)[feature]),
                    "layer": one.layer,
                    "number": feature,
                }
            )
    return sorted(rows, key=lambda row: -abs(float(str(row["weight"]))))


def _head_rows(wires: Wires) -> Rows:
    """What passes through each head, the most first, against random readings."""
    if wires.reach is None or wires.reach_random is None:
        return []
    rows: Rows = [
        {"head": f"L{layer}.H{head}", "reach": float(own), "of random readings": float(wires.reach_random[layer, head])}
        for layer, line in enumerate(wires.reach)
        for head, own in enumerate(line)
    ]
    return sorted(rows, key=lambda row: -float(str(row["reach"])))


def _arrays(seen: Seen, wires: Wires, strips: dict[str, Excerpt]) -> dict[str, Named]:
    arrays = {
        name: Named(one.values.numpy(), ("pos",), "activation", {"pos": one.text}) for name, one in strips.items()
    }
    if seen.count:
        used = seen.histogram.nonzero()[:, 0]
        shown = slice(int(used[0]), int(used[-1]) + 1)
        names = tuple(f"{low:.3g}-{high:.3g}" for low, high in zip(EDGES[:-1], EDGES[1:], strict=True))
        arrays["histogram"] = Named(seen.histogram[shown].numpy(), ("step",), "tokens", {"step": names[shown]})
        values = np.quantile(seen.sizes.numpy(), list(_QUANTILES.values())).astype(np.float32)
        arrays["quantiles"] = Named(values, ("step",), "activation", {"step": tuple(_QUANTILES)})
    if wires.reach is not None and wires.reach_random is not None:
        for name, values in (("reach", wires.reach), ("reach_random", wires.reach_random)):
            arrays[name] = Named(values.numpy(), ("layer", "head"), "length")
    edges = [*wires.before, *wires.after]
    if edges:
        labels = {"layer": tuple(str(one.layer) for one in edges)}
        strongest = np.array([float(one.weights.abs().max()) for one in edges], np.float32)
        chance = np.array([one.chance for one in edges], np.float32)
        arrays["strongest_edge"] = Named(strongest, ("layer",), "pre-activation", labels)
        arrays["chance_edge"] = Named(chance, ("layer",), "pre-activation", labels)
    return arrays


def _best(wires: Wires, verb: str, sign: float) -> Ends | None:
    """Of the ways in which it reads, or writes, the one on which a token stands out most; None without any."""
    ways = [one for one in wires.ends if one.path.startswith(verb)]
    return max(ways, key=lambda one: _farthest(one, sign)[1] - one.chance) if ways else None


def _farthest(ends: Ends, sign: float) -> tuple[int, float]:
    """The farthest token of a path on the side on which the feature's activations lie, and the size of its z."""
    found = ends.tokens
    if sign >= 0:
        return int(found.promoted[0, 0]), float(found.promoted_z[0, 0])
    return int(found.suppressed[0, 0]), -float(found.suppressed_z[0, 0])


def _overlap(edges: list[Edges], count: int) -> float | None:
    """The share of features that are among the strongest both by weight and by mean effect, over all layers."""
    weights = torch.cat([one.weights for one in edges]).abs() if edges else torch.zeros(0)
    means = torch.cat([one.effects * one.shares for one in edges]).abs() if edges else torch.zeros(0)
    kept = min(count, len(weights))
    if not kept or not bool(means.any()):
        return None
    first, second = (set(values.topk(kept).indices.tolist()) for values in (weights, means))
    return len(first & second) / kept


def _scalars(model: Model, seen: Seen, wires: Wires) -> dict[str, object]:
    found: dict[str, object] = {
        "feature": seen.name,
        "density": seen.density,
        "tokens": seen.tokens,
        "active on": seen.count,
        "dead": seen.count == 0,
        "largest activation": seen.largest,
        "usual activation": seen.usual,
        "length of decoder": seen.size,
        "features active less often": seen.denser,
        "dead features of the layer": seen.dead[0],
        "features of the layer": seen.dead[1],
        "chance cosine": wires.chance_cosine,
        "weights and effects agree on": _overlap(wires.before, wires.top),
        "coders": seen.coders.name,
        "fingerprint of coders": seen.coders.fingerprint,
        "fingerprint of corpus": seen.index.card["corpus"]["fingerprint"],
    }
    for verb in ("writes", "reads"):
        if (ends := _best(wires, verb, seen.largest)) is not None:
            token, z = _farthest(ends, seen.largest)
            found |= {verb: model.tokenizer.decode([token]), f"z of {verb}": z, f"chance z of {verb}": ends.chance}
    return found


def _finding(model: Model, seen: Seen, wires: Wires) -> str:
    said = f"{seen.name} is active on {seen.count:,} of {seen.tokens:,} tokens ({100 * seen.density:.3g} %)"
    if seen.excerpts:
        first = seen.excerpts[0]
        said += f", most at {first.text[first.at]!r} ({first.example.value:.3g})"
    for verb in ("reads", "writes"):
        if (ends := _best(wires, verb, seen.largest)) is not None:
            token, z = _farthest(ends, seen.largest)
            what = repr(model.tokenizer.decode([token])) if z > ends.chance else "no token beyond chance"
            way = ends.path.removeprefix(verb) if z > ends.chance else ""
            said += f"; it {verb} {what}{way} (z {z:.1f}, random directions stay below {ends.chance:.1f})"
    return f"{said}."


def _notes(seen: Seen, wires: Wires) -> tuple[str, ...]:
    card = seen.index.card
    notes = [
        f"Corpus: {card['corpus']['name']}, {seen.tokens:,} tokens in passages of up to {card['recipe']['length']}.",
        "The lower bands are quantiles of the activation among all tokens on which the feature is active, from an "
        f"even sample of up to {card['recipe']['sampled']}.",
        "Edges and tokens: no attention pattern is in them, norms have their usual size on the corpus' first passage.",
    ]
    if seen.index.since:
        notes.append("The first token of a passage is not counted: NaN stands there.")
    if seen.count == 0:
        notes.append("The feature is dead on this corpus: it may be alive on another.")
    if seen.tokens < _FEW_TOKENS:
        notes.append(f"With fewer than {_FEW_TOKENS} tokens, density and examples say little.")
    if not wires.ends:
        notes.append("The coder reads and writes no vectors of the stream, so no token can be compared with them.")
    return tuple(notes)


def _checks(model: Model, seen: Seen, wires: Wires) -> tuple[Check, ...]:
    allowed = 1e-3 if model.dtype in _EXACT else 0.5
    gaps = [one.gap for one in seen.excerpts]
    checks = [
        Check("norms and heads as affine maps, largest relative error", wires.gap, 1e-3 if allowed < 0.1 else 0.1),
        Check(
            "activations counted in the histogram but not in the density",
            abs(int(seen.histogram.sum()) - seen.count),
            0,
        ),
    ]
    if gaps:
        relative = max(gaps) / abs(seen.largest)
        checks.append(Check("activations of the examples computed anew, relative to the largest", relative, allowed))
    if wires.ends:
        checks.append(Check("z of tokens against the slow definition", max(one.gap for one in wires.ends), 1e-3))
    return tuple(checks)
