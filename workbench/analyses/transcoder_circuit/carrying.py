"""Through which heads the circuit runs: what each hands to the target, and what carries the heaviest edges."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.circuits.frozen import FrozenRun
from workbench.circuits.graph import AttributionGraph
from workbench.circuits.loadings import Loadings, load_heads
from workbench.circuits.sources import Sources, find_sources
from workbench.circuits.targets import Target, feature_target
from workbench.coders.coder import Transcoders

_EDGES = 12
"""How many edges are split over their carriers."""

_CARRIERS = 3
"""How many carriers of an edge are told."""


@dataclass(frozen=True)
class EdgeCarriers:
    """One edge and what carries it.

    Attributes:
        row: of the graph.
        column: of the graph.
        carriers: each with what it brings, largest first.
    """

    row: int
    column: int
    carriers: list[tuple[str, float]]


@dataclass(frozen=True)
class Carried:
    """What carries the circuit.

    Attributes:
        heads: what each head hands to the first target, over all sources.
        direct: what reaches it past all heads.
        edges: the heaviest drawn edges.
        gap: by how much the carriers of an edge miss it at most, over the largest edge of its row.
    """

    heads: Float[Tensor, "layer head"]
    direct: float
    edges: list[EdgeCarriers]
    gap: float


def carry(
    run: FrozenRun, coders: Transcoders, graph: AttributionGraph, drawn: Bool[Tensor, "node node"], keep_first: bool
) -> Carried:
    """Split the row of the first target, and the heaviest drawn edges, over heads."""
    sources = find_sources(run, coders, keep_first=keep_first)
    places = _columns(graph, sources)
    first = len(graph.features)
    chosen = _heaviest(graph, drawn)
    split = {
        row: load_heads(run, sources, _target(run, coders, graph, row)) for row in {first, *(row for row, _ in chosen)}
    }
    edges = [EdgeCarriers(row, column, split[row].of(int(places[column]), _CARRIERS)) for row, column in chosen]
    gaps = [_gap(one, graph.edges[row], places) for row, one in split.items()]
    totals = dict(zip(split[first].carriers, split[first].totals().tolist(), strict=True))
    heads = torch.tensor(
        [
            [totals.get(f"L{layer}.H{head}", 0.0) for head in range(len(one.outputs))]
            for layer, one in enumerate(run.layers)
        ]
    )
    return Carried(heads, totals["direct"], edges, max(gaps))


def _columns(graph: AttributionGraph, sources: Sources) -> Int[Tensor, " column"]:
    """For each column of the graph, which may lack features, the column of the same source in the whole."""
    known = {tuple(place): column for column, place in enumerate(sources.features.tolist())}
    kept = [known[tuple(place)] for place in graph.features.tolist()]
    rest = range(sources.columns.n_features, sources.columns.count)
    return torch.tensor([*kept, *rest], dtype=torch.long)


def _heaviest(graph: AttributionGraph, drawn: Bool[Tensor, "node node"]) -> list[tuple[int, int]]:
    """Row and column of the heaviest drawn edges; ties go to the earlier ones."""
    weights = (graph.square() * drawn).abs()
    order = weights.flatten().argsort(descending=True, stable=True)[:_EDGES].tolist()
    count, known = len(weights), graph.columns.slices["token"].stop
    found = []
    for place in order:
        node, column = place // count, place % count
        if weights[node, column] > 0:
            found.append((node if node < len(graph.features) else len(graph.features) + node - known, column))
    return found


def _target(run: FrozenRun, coders: Transcoders, graph: AttributionGraph, row: int) -> Target:
    if row >= len(graph.features):
        return graph.targets[row - len(graph.features)]
    layer, pos, number = graph.features[row].tolist()
    return feature_target(run, coders, layer, number, pos=pos)


def _gap(loadings: Loadings, row: Float[Tensor, " column"], places: Int[Tensor, " column"]) -> float:
    """By how much the parts miss the row of the graph."""
    made = loadings.parts.double().sum(0)[places]
    return float((made - row.double()).abs().max() / row.abs().max().clamp_min(1e-30))
