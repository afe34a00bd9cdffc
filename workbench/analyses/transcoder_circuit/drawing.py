"""The pruned graph as tables of nodes and edges, each node at its position and layer."""

from collections import defaultdict
from dataclasses import asdict

from workbench.analyses.transcoder_circuit.tracing import Traced
from workbench.circuits.exchange import Circuit, circuit_of
from workbench.model import Model

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
                **{key: value for key, value in asdict(node).items() if key != "node_id"},
            }
        )
    _spread(rows)
    return rows


def edge_rows(circuit: Circuit) -> list[dict[str, object]]:
    """One row for each kept edge, the heaviest first."""
    links = sorted(circuit.links, key=lambda link: -abs(link.weight))
    return [{"source": link.source, "target": link.target, "weight": link.weight} for link in links]


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
