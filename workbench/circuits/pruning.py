"""Influence, pruning and scores of a graph as circuit-tracer defines them, so that its numbers can be compared.

Influence. With |edges| normalised to sum to 1 for each row, the influence of a node on the targets is the sum
over all ways from it to a target of the product of its normalised edges, times the target's weight. It is a
share of attention, not of the value: signs are lost, so read it beside the signed accounting of the graph.
Only features, errors, tokens and targets are nodes here, as in circuit-tracer; the positions, biases and
outputs at the first position that complete the accounting take no part.
Reference: Ameisen et al. 2025, "Circuit Tracing"; circuit-tracer's graph.py (read, not copied).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.circuits.graph import AttributionGraph

_TINY = 1e-10


@dataclass(frozen=True)
class Pruned:
    """Which nodes and edges of a graph matter, in the layout of `AttributionGraph.square`.

    Attributes:
        nodes: the nodes that are kept; tokens and targets always are.
        edges: the edges that are kept, row by target node.
        influence: of each node on the targets.
        cumulative: for each node, the share of all influence that it and the more influential nodes have.
    """

    nodes: Bool[Tensor, " node"]
    edges: Bool[Tensor, "node node"]
    influence: Float[Tensor, " node"]
    cumulative: Float[Tensor, " node"]


@dataclass(frozen=True)
class Scores:
    """How much of the influence passes through features, 0 to 1.

    Attributes:
        replacement: share of tokens against errors in the influence that ends in either.
        completeness: share of what enters each node that is no error, weighted by the node's influence.
    """

    replacement: float
    completeness: float


def influence_of(graph: AttributionGraph) -> Float[Tensor, " node"]:
    """The influence of each node on the targets, weighted by their weights."""
    square = graph.square()
    return _influence(_normalised(square), _weights(graph, square))


def edge_influence_of(graph: AttributionGraph) -> Float[Tensor, "node node"]:
    """The influence that passes through each edge, row by target node; all edges out of a node sum to its own."""
    square = _normalised(graph.square())
    weights = _weights(graph, square)
    return square * (_influence(square, weights) + weights)[:, None]


def strongest(graph: AttributionGraph, count: int) -> AttributionGraph:
    """The graph with the features of the largest influence alone; ties go to the earlier feature.

    Influence is that in the whole graph, so the choice depends on nothing but the graph.

    Raises:
        ValueError: the count is below 1.
    """
    if count < 1:
        raise ValueError(f"at least one feature must be kept, found {count}")
    ranked = influence_of(graph)[: len(graph.features)].argsort(descending=True, stable=True)
    kept = torch.zeros(len(graph.features), dtype=torch.bool)
    kept[ranked[:count]] = True
    return graph.only(kept)


def prune(graph: AttributionGraph, node_threshold: float = 0.8, edge_threshold: float = 0.98) -> Pruned:
    """Keep the nodes, and then the edges, that carry these shares of the influence.

    Features without an edge to or from what is kept go too, and so do errors that nothing reads.

    Args:
        graph: a graph.
        node_threshold: share of influence that the kept nodes must have, 0 to 1.
        edge_threshold: the same of edges.

    Raises:
        ValueError: a threshold is not from 0 to 1.
    """
    for name, threshold in {"node_threshold": node_threshold, "edge_threshold": edge_threshold}.items():
        if not 0 <= threshold <= 1:
            raise ValueError(f"{name} must be from 0 to 1, found {threshold}")
    square = graph.square()
    weights = _weights(graph, square)
    influence = _influence(_normalised(square), weights)
    loose = graph.columns.slices["error"].stop  # features and errors: they can be dropped
    nodes = influence >= _floor(influence, node_threshold)
    nodes[loose:] = True
    inner = _normalised(square * nodes[:, None] * nodes)
    scores = inner * (_influence(inner, weights) + weights)[:, None]
    edges = scores >= _floor(scores.flatten(), edge_threshold)
    _drop_dead_ends(nodes, edges, len(graph.features), loose)
    order = influence.argsort(descending=True, stable=True)
    cumulative = torch.zeros_like(influence)
    cumulative[order] = influence[order].cumsum(0) / influence.sum().clamp_min(_TINY)
    drawn = edges & (square != 0) & nodes[:, None] & nodes
    return Pruned(nodes, drawn, influence, cumulative)


def score(graph: AttributionGraph) -> Scores:
    """The replacement and the completeness score."""
    square, slices = _normalised(graph.square()), graph.columns.slices
    weights = _weights(graph, square)
    influence = _influence(square, weights)
    tokens, errors = influence[slices["token"]].sum(), influence[slices["error"]].sum()
    through = influence + weights
    clean = 1 - square[:, slices["error"]].sum(1)
    ends = (tokens + errors).clamp_min(_TINY)
    return Scores(float(tokens / ends), float((clean * through).sum() / through.sum().clamp_min(_TINY)))


def _weights(graph: AttributionGraph, square: Float[Tensor, "node node"]) -> Float[Tensor, " node"]:
    """The weights of the targets, at their places among the nodes."""
    weights = square.new_zeros(len(square))
    weights[-len(graph.targets) :] = graph.weights.to(square)
    return weights


def _normalised(square: Float[Tensor, "node node"]) -> Float[Tensor, "node node"]:
    """Absolute edges, summing to 1 for each row."""
    sizes = square.abs()
    return sizes / sizes.sum(1, keepdim=True).clamp_min(_TINY)


def _influence(square: Float[Tensor, "node node"], weights: Float[Tensor, " node"]) -> Float[Tensor, " node"]:
    """Over ways of every length; there are as many as there are layers, since edges only lead up."""
    reached = weights @ square
    total = reached.clone()
    for _ in range(len(square)):
        if not bool(reached.any()):
            break
        reached = reached @ square
        total += reached
    return total


def _floor(scores: Float[Tensor, " some"], share: float) -> Float[Tensor, ""]:
    """The smallest score among the largest ones that together have this share."""
    ranked = scores.sort(descending=True).values
    reached = ranked.cumsum(0) / ranked.sum()
    return ranked[min(int(torch.searchsorted(reached, share)), len(ranked) - 1)]


def _drop_dead_ends(nodes: Bool[Tensor, " node"], edges: Bool[Tensor, "node node"], features: int, loose: int) -> None:
    """Drop, in place, features that lead nowhere or come from nowhere, and errors that lead nowhere."""
    before = None
    while before is None or not torch.equal(nodes, before):
        if before is not None:
            edges[~nodes] = False
            edges[:, ~nodes] = False
        before = nodes.clone()
        nodes[:loose] &= edges[:, :loose].any(0)
        nodes[:features] &= edges[:features].any(1)
