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
from jaxtyping import Bool, Float, Int
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
    return _influence(graph, _all_nodes(graph))


def edge_influence_of(graph: AttributionGraph) -> Float[Tensor, "node node"]:
    """The influence that passes through each edge, row by target node; all edges out of a node sum to its own."""
    nodes, readers = _all_nodes(graph), _readers(graph)
    passed = graph.edges.new_zeros(len(nodes), len(nodes))
    through = _influence(graph, nodes) + _weights(graph)
    passed[readers] = _shares(graph, slice(None), nodes) * through[readers, None]
    return passed


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
        node_threshold: share of influence that the kept nodes must have, 0 to 1; 1 keeps all.
        edge_threshold: the same of edges.

    Raises:
        ValueError: a threshold is not from 0 to 1.
    """
    for name, threshold in {"node_threshold": node_threshold, "edge_threshold": edge_threshold}.items():
        if not 0 <= threshold <= 1:
            raise ValueError(f"{name} must be from 0 to 1, found {threshold}")
    loose, readers = graph.columns.slices["error"].stop, _readers(graph)
    influence = influence_of(graph)
    nodes = influence >= _floor(influence, node_threshold, len(influence))
    nodes[loose:] = True  # only features and errors can be dropped
    rows = nodes[readers].nonzero()[:, 0]
    through = _influence(graph, nodes) + _weights(graph)
    passed = _shares(graph, rows, nodes) * through[readers[rows], None]
    drawn = passed >= _floor(passed.flatten(), edge_threshold, len(nodes) ** 2)
    _drop_dead_ends(nodes, drawn, rows[rows < len(graph.features)], loose)
    edges = torch.zeros(len(nodes), len(nodes), dtype=torch.bool)
    edges[readers[rows]] = drawn & nodes & (_sizes(graph, rows) > 0) & nodes[readers[rows], None]
    order = influence.argsort(descending=True, stable=True)
    cumulative = torch.zeros_like(influence)
    cumulative[order] = influence[order].cumsum(0) / influence.sum().clamp_min(_TINY)
    return Pruned(nodes, edges, influence, cumulative)


def score(graph: AttributionGraph) -> Scores:
    """The replacement and the completeness score."""
    influence, slices = influence_of(graph), graph.columns.slices
    tokens, errors = influence[slices["token"]].sum(), influence[slices["error"]].sum()
    ends, whole = tokens + errors, influence.sum() + graph.weights.sum()
    # what enters a node from errors, weighted by its influence, is the influence of those errors
    return Scores(float(tokens / ends.clamp_min(_TINY)), float(1 - errors / whole.clamp_min(_TINY)))


def _all_nodes(graph: AttributionGraph) -> Bool[Tensor, " node"]:
    return torch.ones(graph.columns.slices["token"].stop + len(graph.targets), dtype=torch.bool)


def _readers(graph: AttributionGraph) -> Int[Tensor, " row"]:
    """The node of each row: features come first among the nodes, targets last."""
    features, targets = len(graph.features), len(graph.targets)
    first = graph.columns.slices["token"].stop
    return torch.cat([torch.arange(features), torch.arange(first, first + targets)])


def _weights(graph: AttributionGraph) -> Float[Tensor, " node"]:
    """The weights of the targets, at their places among the nodes."""
    weights = graph.weights
    return torch.cat([weights.new_zeros(graph.columns.slices["token"].stop), weights])


def _sizes(graph: AttributionGraph, rows: slice | Int[Tensor, " some"]) -> Float[Tensor, "some node"]:
    """The absolute edges of some rows."""
    edges = graph.edges[rows, : graph.columns.slices["token"].stop]
    return torch.nn.functional.pad(edges, (0, len(graph.targets))).abs_()


def _shares(
    graph: AttributionGraph, rows: slice | Int[Tensor, " some"], nodes: Bool[Tensor, " node"]
) -> Float[Tensor, "some node"]:
    """The absolute edges of some rows from some nodes, summing to 1 for each row."""
    sizes = _sizes(graph, rows).mul_(nodes)
    return sizes.div_(sizes.sum(1, keepdim=True).clamp_min(_TINY))


def _influence(graph: AttributionGraph, nodes: Bool[Tensor, " node"]) -> Float[Tensor, " node"]:
    """Over ways of every length through some nodes, in one pass and 64 bits.

    Edges only lead up, so from the top down a layer has all its influence when its turn comes.
    """
    readers, weights = _readers(graph), _weights(graph).double()
    influence, last = torch.zeros_like(weights), len(readers)
    layers = graph.features[:, 0].unique_consecutive(return_counts=True)[1].tolist()
    for count in reversed([*layers, len(graph.targets)]):
        rows = slice(last - count, last)
        through = (influence + weights)[readers[rows]]
        influence += through @ _shares(graph, rows, nodes).double()
        last -= count
    return influence.to(graph.edges)


def _floor(scores: Float[Tensor, " some"], share: float, count: int) -> Float[Tensor, ""]:
    """The smallest score among the largest ones that together have this share; 0 for a share of 1.

    There all are meant, and rounding would decide which of the smallest are among them.

    Args:
        scores: from 0 up.
        share: 0 to 1.
        count: of all scores, with zeros that are not among them: a sum is rounded by how many numbers it has.
    """
    if share == 1:
        return scores.new_zeros(())
    ranked = scores[scores > 0].sort(descending=True).values
    whole = torch.nn.functional.pad(ranked, (0, count - len(ranked))).sum()
    place = int(torch.searchsorted(ranked.cumsum(0) / whole, share))
    return ranked[place] if place < len(ranked) else scores.new_zeros(())


def _drop_dead_ends(
    nodes: Bool[Tensor, " node"], edges: Bool[Tensor, "row node"], features: Int[Tensor, " some"], loose: int
) -> None:
    """Drop, in place, features that lead nowhere or come from nowhere, and errors that lead nowhere.

    Args:
        nodes: which are kept.
        edges: the kept edges into these features and then the targets.
        features: the features among the nodes that are kept.
        loose: how many of all nodes are features or errors.
    """
    before = None
    while before is None or not torch.equal(nodes, before):
        if before is not None:
            edges[:, ~nodes] = False
            edges[: len(features)][~nodes[features]] = False
        before = nodes.clone()
        nodes[:loose] &= edges[:, :loose].any(0)
        nodes[features] &= edges[: len(features)].any(1)
