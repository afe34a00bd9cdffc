"""A graph as the arrays of a result, and back: what a saved run needs so that its accounting can be checked again."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from workbench.circuits.graph import AttributionGraph
from workbench.circuits.sources import Columns
from workbench.circuits.targets import Target
from workbench.result import Named, Result

NAMES = (
    "graph_edges",
    "graph_values",
    "graph_left_out",
    "graph_bounds",
    "graph_features",
    "graph_activations",
    "graph_tokens",
)
"""The arrays that hold a graph."""

_PLACE = ("layer", "pos", "number")


def graph_arrays(graph: AttributionGraph) -> dict[str, Named]:
    """A graph as named arrays: rows are the axis `target_component`, columns `source_component`."""

    def numbers(values: torch.Tensor) -> np.ndarray:
        return values.cpu().numpy()

    row, column = ("target_component",), ("source_component",)
    arrays = (
        Named(numbers(graph.edges), (*row, *column), "unit of the row"),
        Named(numbers(graph.values), row, "unit of the row"),
        Named(numbers(graph.left_out), row, "unit of the row"),
        Named(numbers(graph.bounds), row, "unit of the row"),
        Named(numbers(graph.features), ("feature", "component"), labels={"component": _PLACE}),
        Named(numbers(graph.activations), ("feature",), "activation"),
        Named(np.array(graph.ids), ("pos",), "token id", {"pos": graph.text}),
    )
    return dict(zip(NAMES, arrays, strict=True))


def target_row(target: Target) -> dict[str, Any]:
    """A target as a row of the table `targets`; the direction that it reads is not kept."""
    told = {"target": target.name, "value": target.value, "weight": target.weight, "pos": target.pos}
    return {**told, "layer": target.layer, "token": target.token, "constant": target.constant}


def graph_of_result(result: Result) -> AttributionGraph:
    """The graph of a result of `transcoder_circuit`, a reloaded one too; its targets have no directions any more.

    Raises:
        KeyError: the result holds no graph.
        ValueError: its arrays do not fit each other.
    """
    if missing := [name for name in NAMES if name not in result.arrays]:
        raise KeyError(f"the result of {result.analysis!r} holds no graph: {', '.join(missing)} are missing")
    held = [torch.from_numpy(result.named(name).values.copy()) for name in NAMES]
    depth, text = int(result.model["shape"]["n_layers"]), result.named("graph_tokens").labels["pos"]
    return _graph(held, result.tables["targets"], depth, text)


def sparse_graph(graph: AttributionGraph) -> dict[str, np.ndarray]:
    """A graph as plain arrays, its edges by row and column where they are not zero."""
    rows, columns = graph.edges.nonzero().cpu().unbind(1)
    return {
        "row": rows.numpy(),
        "column": columns.numpy(),
        "edge": graph.edges[rows, columns].cpu().numpy(),
        "values": graph.values.cpu().numpy(),
        "left_out": graph.left_out.cpu().numpy(),
        "bounds": graph.bounds.cpu().numpy(),
        "features": graph.features.cpu().numpy(),
        "activations": graph.activations.cpu().numpy(),
        "tokens": np.array(graph.ids),
    }


def graph_of_sparse(
    arrays: Mapping[str, np.ndarray], targets: Sequence[Mapping[str, Any]], layers: int, text: Sequence[str]
) -> AttributionGraph:
    """The graph that `sparse_graph` wrote.

    Args:
        arrays: what it wrote.
        targets: what `target_row` wrote.
        layers: how many layers the model has.
        text: the tokens.

    Raises:
        KeyError: an array is missing.
        ValueError: the arrays do not fit each other.
    """
    held = {name: torch.from_numpy(np.array(values)) for name, values in arrays.items()}
    columns = Columns(len(held["features"]), layers, len(text))
    edges = torch.zeros(len(held["values"]), columns.count, dtype=held["edge"].dtype)
    if len(held["row"]) and (int(held["row"].max()) >= len(edges) or int(held["column"].max()) >= columns.count):
        raise ValueError(f"an edge of the graph lies outside of its {len(edges)} rows and {columns.count} columns")
    edges[held["row"], held["column"]] = held["edge"]
    rest = [held[name] for name in ("values", "left_out", "bounds", "features", "activations", "tokens")]
    return _graph([edges, *rest], targets, layers, text)


def _graph(
    held: list[torch.Tensor], targets: Sequence[Mapping[str, Any]], depth: int, text: Sequence[str]
) -> AttributionGraph:
    edges, values, left_out, bounds, features, activations, tokens = held
    columns = Columns(len(features), depth, len(text))
    if edges.shape != (columns.n_features + len(targets), columns.count):
        raise ValueError(
            f"the graph has {tuple(edges.shape)} edges, but {columns.n_features} features and "
            f"{len(targets)} targets need {(columns.n_features + len(targets), columns.count)}"
        )
    return AttributionGraph(
        ids=tuple(tokens.tolist()),
        text=tuple(text),
        columns=columns,
        features=features,
        activations=activations,
        targets=tuple(map(_target, targets)),
        edges=edges,
        values=values,
        left_out=left_out,
        bounds=bounds,
        gap=float("nan"),
    )


def _target(row: Mapping[str, Any]) -> Target:
    return Target(
        name=row["target"],
        layer=row["layer"],
        pos=row["pos"],
        vector=torch.empty(0),
        constant=row["constant"],
        value=row["value"],
        weight=row["weight"],
        token=row["token"],
    )
