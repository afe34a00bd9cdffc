"""Influence, pruning and scores equal circuit-tracer's algorithm, and paths are the best of all paths."""

import pytest
import torch
from circuit_parts import graph_of

from workbench.circuits.paths import find_paths
from workbench.circuits.pruning import influence_of, prune, score, strongest


def reference(square, probabilities, features, errors, tokens, node_threshold, edge_threshold):
    """circuit-tracer 0.5 (`graph.py`), said again in few words: masks, node influence and both scores."""
    weights = torch.zeros(len(square))
    weights[-len(probabilities) :] = probabilities

    def normalise(matrix):
        return matrix.abs() / matrix.abs().sum(dim=1, keepdim=True).clamp(min=1e-10)

    def influence(matrix):
        return weights @ (
            torch.linalg.inv(torch.eye(len(matrix)).double() - matrix.double()).float() - torch.eye(len(matrix))
        )

    def threshold(scores, share):
        ranked = scores.sort(descending=True).values
        reached = ranked.cumsum(0) / ranked.sum()
        return ranked[min(int((reached < share).sum()), len(ranked) - 1)]

    matrix = normalise(square)
    of_nodes = influence(matrix)
    ends = len(probabilities) + tokens
    nodes = of_nodes >= threshold(of_nodes, node_threshold)
    nodes[-ends:] = True
    inner = square.clone()
    inner[~nodes] = 0
    inner[:, ~nodes] = 0
    inner = normalise(inner)
    of_edges = inner * (influence(inner) + weights)[:, None]
    edges = of_edges >= threshold(of_edges.flatten(), edge_threshold)
    old = None
    while old is None or not torch.equal(old, nodes):
        if old is not None:
            edges[~nodes] = False
            edges[:, ~nodes] = False
        old = nodes.clone()
        nodes[:-ends] &= edges[:, :-ends].any(0)
        nodes[:features] &= edges[:features].any(1)
    token_part = of_nodes[features + errors : features + errors + tokens].sum()
    error_part = of_nodes[features : features + errors].sum()
    clean = 1 - matrix[:, features : features + errors].sum(1)
    replacement = token_part / (token_part + error_part)
    completeness = (clean * (of_nodes + weights)).sum() / (of_nodes + weights).sum()
    return of_nodes, nodes, edges, float(replacement), float(completeness)


@pytest.mark.parametrize("thresholds", [(0.8, 0.98), (0.5, 0.9), (0.95, 0.6)])
@pytest.mark.parametrize("name", ["GPT2", "Gemma2", "GPTNeoX parallel"])
def test_numbers_are_those_of_circuit_tracer_on_the_same_graph(name, thresholds):
    graph = graph_of(name)
    pruned, scores = prune(graph, *thresholds), score(graph)
    sizes = len(graph.features), graph.columns.n_layers * graph.columns.n_pos, graph.columns.n_pos
    influence, nodes, edges, replacement, completeness = reference(graph.square(), graph.weights, *sizes, *thresholds)
    assert torch.allclose(influence_of(graph), influence, atol=1e-6)
    assert torch.equal(pruned.nodes, nodes)
    both = nodes[:, None] & nodes  # its files leave out links of nodes that are not kept
    assert torch.equal(pruned.edges, edges & both & (graph.square() != 0))
    assert scores.replacement == pytest.approx(replacement, abs=1e-5)
    assert scores.completeness == pytest.approx(completeness, abs=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "Gemma2", "GPTNeoX parallel"])
def test_everything_is_kept_at_thresholds_of_one(name):
    graph = graph_of(name)
    pruned = prune(graph, 1.0, 1.0)
    assert pruned.nodes.all()
    assert torch.equal(pruned.edges, graph.square() != 0)


def test_more_is_kept_at_higher_thresholds():
    graph = graph_of("Llama")
    for low, high in (((0.4, 0.98), (0.8, 0.98)), ((0.8, 0.5), (0.8, 0.98))):
        less, more = prune(graph, *low), prune(graph, *high)
        assert 0 < int(less.edges.sum()) < int(more.edges.sum())
        assert int(less.nodes.sum()) <= int(more.nodes.sum())


def test_the_strongest_features_are_chosen_exactly_and_rows_still_add_up():
    graph = graph_of("GPT2")
    small = strongest(graph, 30)
    influence = influence_of(graph)[: len(graph.features)]
    kept = {tuple(place) for place in small.features.tolist()}
    ranked = influence.argsort(descending=True, stable=True)
    assert kept == {tuple(graph.features[place].tolist()) for place in ranked[:30]}
    assert small.missing().max() < 1e-5
    assert small.left_out.abs().max() > 0
    for rows in (5, 128):
        again = strongest(graph_of("GPT2", rows_at_once=rows), 30)
        assert torch.equal(again.features, small.features)


def every_path(graph, target=0):
    """All chains from a source that is no feature to the target, by plain recursion."""
    features = len(graph.features)

    def below(row, factor):
        for column, edge in enumerate(graph.edges[row].double().tolist()):
            if edge == 0:
                continue
            if column >= features:
                yield (column,), factor * edge
            else:
                for chain, product in below(column, factor * edge / float(graph.values[column])):
                    yield (*chain, column), product

    return sorted(below(features + target, 1.0), key=lambda one: -abs(one[1]))


def test_paths_are_the_best_of_all_and_all_of_them_make_the_target():
    graph = strongest(graph_of("Gemma3"), 40)
    slow = every_path(graph)
    fast = find_paths(graph, count=25)
    assert [path.columns for path in fast] == [chain for chain, _ in slow[:25]]
    assert [path.product for path in fast] == pytest.approx([product for _, product in slow[:25]])
    assert any(path.product < 0 for path in fast)
    assert len(find_paths(graph, count=5)) == 5
    assert find_paths(graph, count=5) == fast[:5]


def test_the_products_of_all_paths_make_the_target():
    graph = graph_of("Gemma3")
    total = sum(product for _, product in every_path(graph))
    assert total == pytest.approx(float(graph.values[len(graph.features)]), rel=1e-4)


def test_paths_begin_only_where_they_may():
    graph = graph_of("GPT2")
    tokens = graph.columns.slices["token"]
    paths = find_paths(graph, count=30, ends=["token"])
    assert len(paths) == 30
    assert all(tokens.start <= path.columns[0] < tokens.stop for path in paths)
    slow = [path for path in every_path(graph) if tokens.start <= path[0][0] < tokens.stop]
    assert [path.columns for path in paths] == [chain for chain, _ in slow[:30]]
    longer = [chain for chain, _ in slow if len(chain) > 1]
    assert [path.columns for path in find_paths(graph, count=30, ends=["token"], direct=False)] == longer[:30]
    through = find_paths(graph, count=5, ends=["feature"])
    assert all(path.columns[0] < len(graph.features) for path in through)


def test_mistakes_are_refused():
    graph = graph_of("GPT2")
    with pytest.raises(ValueError, match=r"node_threshold must be from 0 to 1, found 1.5"):
        prune(graph, 1.5)
    with pytest.raises(ValueError, match="at least one feature must be kept, found 0"):
        strongest(graph, 0)
    with pytest.raises(ValueError, match="target 77: the graph has"):
        find_paths(graph, 77)
    with pytest.raises(ValueError, match="at least one path must be asked for, found 0"):
        find_paths(graph, count=0)
    with pytest.raises(ValueError, match="paths cannot begin in 'head': allowed are feature, error"):
        find_paths(graph, ends=["head"])
