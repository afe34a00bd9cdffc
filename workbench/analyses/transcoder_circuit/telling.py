"""What the analysis says: arrays, tables, views, checks and the finding."""

import torch

from workbench.analyses.transcoder_circuit.drawing import (
    carrier_rows,
    coder_rows,
    draw_circuit,
    edge_rows,
    feature_name,
    node_rows,
    supernode_edge_rows,
    supernode_rows,
)
from workbench.analyses.transcoder_circuit.tracing import Settings, Traced
from workbench.circuits.sources import KINDS
from workbench.circuits.stored import graph_arrays, target_row
from workbench.circuits.supernodes import alike, group
from workbench.lens import caps_logits
from workbench.model import Model
from workbench.result import Check, Named, Result
from workbench.views import Graph, Heatmap, Lines, Table, View

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
_LISTED = 100
"""How many features the table holds at most."""


def tell(model: Model, traced: Traced, settings: Settings) -> Result:
    """The result of one prompt."""
    graph, circuit = traced.graph, draw_circuit(model, traced)
    groups = alike(circuit, traced.coders, similarity=settings.similarity)
    return Result(
        arrays=_arrays(traced),
        tables={
            "targets": [target_row(target) for target in graph.targets],
            "accounting": graph.account(),
            "paths": [_path_row(traced, place) for place in range(len(traced.paths))],
            "features": _feature_rows(traced),
            "nodes": node_rows(traced, circuit),
            "edges": edge_rows(traced, circuit),
            "coders": coder_rows(traced),
            "carriers": carrier_rows(traced),
            "supernodes": supernode_rows(groups, circuit),
            "supernode_edges": supernode_edge_rows(group(circuit, groups)),
        },
        scalars=_scalars(traced),
        views=_views(traced),
        finding=_finding(traced),
        notes=_notes(model, traced, settings),
        checks=_checks(model, traced),
    )


def _arrays(traced: Traced) -> dict[str, Named]:
    tokens = {"pos": traced.run.text}
    steps = {"step": tuple(str(count) for count in traced.curve.counts)}
    curve = traced.curve
    arrays = {
        "error_share": Named(traced.error_share.float().numpy(), ("layer", "pos"), "share", tokens),
        "active": Named(traced.active.numpy(), ("layer", "pos"), "features", tokens),
        "carried": Named(traced.carried.heads.float().numpy(), ("layer", "head"), "logits"),
        **graph_arrays(traced.graph),
    }
    random = {
        "ablated": curve.strongest,
        "ablated_random": curve.random.mean(0),
        "ablated_random_lower": curve.random.amin(0),
        "ablated_random_upper": curve.random.amax(0),
    }
    return arrays | {name: Named(values.float().numpy(), ("step",), "logits", steps) for name, values in random.items()}


def _path_row(traced: Traced, place: int) -> dict[str, object]:
    """One path, from its source to the first target."""
    path, graph = traced.paths[place], traced.graph
    names = [_named(traced, column) for column in path.columns]
    return {
        "rank": place + 1,
        "path": " → ".join([*names, graph.targets[0].name]),
        "product": path.product,
        "share": path.product / graph.targets[0].value if graph.targets[0].value else None,
        "features": len(path.columns) - 1,
    }


def _named(traced: Traced, column: int) -> str:
    """A column, and for a feature what its coder calls it."""
    name = traced.graph.column_name(column)
    if column >= len(traced.graph.features):
        return name
    layer, _, number = traced.graph.features[column].tolist()
    known = feature_name(traced, layer, number)
    return f"{name} ({known})" if known else name


def _feature_rows(traced: Traced) -> list[dict[str, object]]:
    """The features of the largest influence."""
    graph = traced.graph
    first = len(graph.features)
    ranked = traced.influence[:first].argsort(descending=True, stable=True)[:_LISTED].tolist()
    rows = []
    for node in ranked:
        layer, pos, number = graph.features[node].tolist()
        rows.append(
            {
                "feature": graph.name(node),
                "name": feature_name(traced, layer, number),
                "token": graph.text[pos],
                "activation": float(graph.activations[node]),
                "influence": float(traced.influence[node]),
                "direct": float(graph.edges[first, node]),
                "drawn": bool(traced.pruned.nodes[node]),
            }
        )
    return rows


def _scalars(traced: Traced) -> dict[str, object]:
    graph = traced.graph
    target = graph.account()[0]
    return {
        "replacement": traced.scores.replacement,
        "completeness": traced.scores.completeness,
        "active_features": traced.found,
        "feature_nodes": len(graph.features),
        "drawn_nodes": int(traced.pruned.nodes.sum()),
        "drawn_edges": int(traced.pruned.edges.sum()),
        "random_size": traced.curve.sizes,
        "coders": traced.coders.name,
        "carried_directly": traced.carried.direct,
        **{f"from_{kind}": target[kind] for kind in (*KINDS, "left_out")},
    }


def _finding(traced: Traced) -> str:
    graph, scalars = traced.graph, _scalars(traced)
    target, curve = graph.targets[0], traced.curve
    of = (
        f"{target.name} is {target.value:.2f}"
        if target.token is None
        else f"The logit of {target.name} is {target.value:.2f} above the mean of the vocabulary"
    )
    parts = f"features add {scalars['from_feature']:+.2f} of it directly, errors {scalars['from_error']:+.2f}"
    kept = f"of {traced.found} active features {int(traced.pruned.nodes[: len(graph.features)].sum())} are drawn"
    scores = f"replacement {traced.scores.replacement:.2f}, completeness {traced.scores.completeness:.2f}"
    if len(curve.counts) < 2:
        return f"{of}; {parts}; {kept} ({scores})."
    count = curve.counts[-1]
    return (
        f"{of}; {parts}; {kept} ({scores}); without the {count} most influential feature{'s' * (count > 1)} it is "
        f"{float(curve.strongest[-1]):.2f}, without as many random ones of the same size "
        f"{float(curve.random[:, -1].mean()):.2f}."
    )


def _checks(model: Model, traced: Traced) -> tuple[Check, ...]:
    tolerance = _TOLERANCE[model.dtype]
    target = traced.graph.targets[0]
    size = max(abs(target.value), float(traced.graph.edges[len(traced.graph.features)].abs().max()), 1e-30)
    return (
        Check("every row adds up to the value that it explains", traced.missing, tolerance),
        Check("rows of the kept features still add up", float(traced.graph.missing().max()), tolerance),
        Check("frozen norms and heads give what the model gave", traced.graph.gap, tolerance),
        Check("a frozen ablation equals its column of the graph", traced.column_gap, tolerance),
        Check("what heads carry adds up to each edge", traced.carried.gap, tolerance),
        Check(
            "the model with nothing ablated gives the target",
            abs(float(traced.curve.strongest[0]) - target.value) / size,
            tolerance,
        ),
    )


def _notes(model: Model, traced: Traced, settings: Settings) -> tuple[str, ...]:
    graph, depth = traced.graph, len(traced.run.layers)
    notes = [
        "Attention patterns are held: why a head looks where it looks is not part of the graph.",
        "Positions, biases and the MLP outputs at the first position are no nodes of the picture, as in "
        "circuit-tracer, but columns of the accounting.",
        "Random features are matched by activation times the length of their decoder; together they write "
        f"{traced.curve.sizes:.2f} times as much as the most influential ones.",
    ]
    if settings.keep_first:
        notes.append("The first position is kept whole, so it has no share of errors (NaN) and no features.")
    if len(traced.coders) < depth:
        notes.append(
            f"{depth - len(traced.coders)} of {depth} layers have no transcoder: their MLP is an error as a whole."
        )
    if len(graph.features) < traced.found:
        notes.append(f"{traced.found - len(graph.features)} active features of little influence are left_out.")
    if len(traced.curve.counts) < 2:
        notes.append("There are too few feature nodes to compare an ablation with random ones.")
    if caps_logits(model.bridge):
        notes.append("Logits before the soft cap.")
    return tuple(notes)


def _views(traced: Traced) -> tuple[View, ...]:
    curve = Lines(
        ("ablated", "ablated_random"),
        x="step",
        lower=("ablated", "ablated_random_lower"),
        upper=("ablated", "ablated_random_upper"),
        title="The target when features are ablated, the most influential ones and random ones of the same size",
    )
    views: list[View] = [
        Graph(
            "nodes",
            "edges",
            diverging=False,
            x_title="position",
            y_title="layer",
            value_title="influence",
            details=("activation",),
            title="The circuit",
            caption="Edges are signed shares of what they lead to: wide ones are large. Influence ignores the sign.",
        ),
        Table("accounting", title="What makes each target: its parts add up to the value"),
        Table("paths", title="Strongest paths through features to the first target, either sign"),
        Table("features", title="Features of the largest influence"),
        Heatmap(
            "carried",
            x="head",
            y="layer",
            diverging=True,
            title="What each head hands to the first target, last of all",
        ),
        Table("carriers", title="Which heads carry the heaviest edges"),
        Heatmap("error_share", x="pos", y="layer", title="Share of each MLP's output that its transcoder misses"),
        Heatmap("active", x="pos", y="layer", title="Active features"),
    ]
    if len(traced.curve.counts) > 1:
        views.insert(1, curve)
    return tuple(views)
