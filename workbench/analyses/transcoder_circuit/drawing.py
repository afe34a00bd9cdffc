"""The pruned graph as tables of nodes and edges, each node at its position and layer."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from workbench.analyses.transcoder_circuit.tracing import Traced
from workbench.circuits.exchange import ERROR, FEATURE, LOGIT, TOKEN, Circuit, circuit_of
from workbench.circuits.pruning import edge_influence_of
from workbench.circuits.supernodes import Grouped, Supernode, group
from workbench.model import Model

_KINDS = {FEATURE: "feature", ERROR: "error", TOKEN: "token", LOGIT: "target"}
_SPREAD = 0.8
"""How much of the room of a position its nodes take."""


def draw_circuit(model: Model, traced: Traced) -> Circuit:
    """The pruned graph as a circuit file holds it."""
    return circuit_of(
        traced.graph,
        traced.pruned,
        slug="circuit",
        scan=traced.coders.name,
        vocabulary=model.shape.d_vocab,
    )


def node_rows(traced: Traced, circuit: Circuit) -> list[dict[str, object]]:
    """One row for each node, at its position and layer, with all that a circuit file says of it.

    `value` is the influence, of targets the weight; `influence` is that of the circuit file, which is cumulative.
    """
    graph = traced.graph
    kept = traced.pruned.nodes.nonzero()[:, 0].tolist()
    known = graph.columns.slices["token"].stop
    rows = []
    for place, node in zip(kept, circuit.nodes, strict=True):
        target = place >= known
        height = -1 if node.layer == "E" else graph.columns.n_layers if target else int(node.layer)
        rows.append(
            {
                "id": node.node_id,
                "x": float(node.ctx_idx),
                "y": float(height),
                "label": graph.name(len(graph.features) + place - known) if target else _label(traced, place),
                "value": graph.targets[place - known].weight if target else float(traced.influence[place]),
                "kind": _KINDS[node.feature_type],
                "column": f"{node.ctx_idx} {graph.text[node.ctx_idx]}",
                "row": "output" if target else "tokens" if node.layer == "E" else node.layer,
                **{key: value for key, value in asdict(node).items() if key != "node_id"},
            }
        )
    _spread(rows)
    return rows


def edge_rows(traced: Traced, circuit: Circuit) -> list[dict[str, Any]]:
    """One row for each kept edge, the heaviest first; `share` is the influence that passes through it."""
    shares = edge_influence_of(traced.graph)[traced.pruned.edges].tolist()
    rows = [
        {"source": link.source, "target": link.target, "weight": link.weight, "share": share}
        for link, share in zip(circuit.links, shares, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row["weight"]))


def carrier_rows(traced: Traced) -> list[dict[str, object]]:
    """One row for each carrier of each of the heaviest edges; `part` over all carriers makes the edge."""
    graph = traced.graph
    return [
        {
            "source": graph.column_name(edge.column),
            "target": graph.name(edge.row),
            "weight": float(graph.edges[edge.row, edge.column]),
            "carrier": carrier,
            "part": part,
        }
        for edge in traced.carried.edges
        for carrier, part in edge.carriers
    ]


def coder_rows(traced: Traced) -> list[dict[str, object]]:
    """One row for each transcoder: what it is, how sparse it is on the prompt, and how much it misses there."""
    return [
        {
            "layer": layer,
            "activation": coder.activation,
            "features": coder.width,
            "k": coder.k,
            "skip": coder.w_skip is not None,
            "cross_layer": coder.w_across is not None,
            "reads": coder.read,
            "writes": coder.write,
            "active": float(traced.active[layer].float().mean()),
            "error_share": _missed(traced, layer),
            "sha256": traced.coders.only((layer,)).fingerprint,
        }
        for layer, coder in traced.coders.items()
    ]


def _missed(traced: Traced, layer: int) -> float:
    """The length of what a transcoder misses over that of what its MLP writes, both summed over the positions."""
    share = traced.error_share[layer]
    written = traced.run.layers[layer].mlp_out.norm(dim=-1).to(share) * ~share.isnan()
    return float((share.nan_to_num() * written).sum() / written.sum().clamp_min(1e-30))


def supernode_rows(groups: Sequence[Supernode], circuit: Circuit) -> list[dict[str, object]]:
    """One row for each group of features that are alike; `inside` is the sum of the edges among them."""
    inside = group(circuit, groups).inside
    return [
        {"label": one.label, "features": len(one.nodes), "inside": inside[one.label], "nodes": " ".join(one.nodes)}
        for one in groups
    ]


def supernode_edge_rows(grouped: Grouped) -> list[dict[str, Any]]:
    """One row for each sum of edges from or to a supernode, the heaviest first."""
    links = [link for link in grouped.links if {link.source, link.target} & set(grouped.inside)]
    rows = [{"source": link.source, "target": link.target, "weight": link.weight} for link in links]
    return sorted(rows, key=lambda row: -abs(row["weight"]))


def _label(traced: Traced, place: int) -> str:
    """A node as a person would write it; features with the name that their coder has for them."""
    name = traced.graph.column_name(place)
    if place >= len(traced.graph.features):
        return name
    layer, _, number = traced.graph.features[place].tolist()
    known = feature_name(traced, layer, number)
    return f"{name} {known}" if known else name


def feature_name(traced: Traced, layer: int, number: int) -> str:
    """What the coders' card calls a feature; empty where it has no name."""
    names = traced.coders.card.get("features", [])
    return names[layer][number] if layer < len(names) and number < len(names[layer]) else ""


def _spread(rows: list[dict[str, object]]) -> None:
    """Set nodes of one place side by side."""
    together = defaultdict(list)
    for row in rows:
        together[row["x"], row["y"]].append(row)
    for (x, _), same in together.items():
        for place, row in enumerate(same):
            row["x"] = x + _SPREAD * ((place + 0.5) / len(same) - 0.5)
