"""Head loadings: they add up to the edge, and a head's part is what is lost without that head."""

from dataclasses import replace

import pytest
import torch
from circuit_parts import FAMILIES, frozen, graph_of, random_coders
from small_models import small_model

from workbench import load
from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.loadings import load_heads
from workbench.circuits.sources import find_sources
from workbench.circuits.targets import difference_target, feature_target, token_targets
from workbench.coders.planting import planted_coders

OPTIONS = [{}, {"skip": True, "across": True}]


def loaded(name, hop, options):
    """Loadings of a logit and of features of either layer, beside the rows of the graph."""
    model, run, coders = small_model(name), frozen(name), random_coders(**options)
    features = [feature_target(run, coders, layer, number, pos=7) for layer, number in ((0, 2), (1, 3))]
    targets = [difference_target(model, run, 5, 6), *features]
    graph = graph_of(name, targets=targets, **options)
    sources = find_sources(run, coders)
    return graph, [load_heads(run, sources, target, hop) for target in targets]


@pytest.mark.parametrize("hop", ["last", "first"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_parts_of_every_edge_add_up_to_it(name, options, hop):
    graph, found = loaded(name, hop, options)
    for row, loadings in zip(graph.edges[len(graph.features) :], found, strict=True):
        assert torch.allclose(loadings.parts.sum(0), row, rtol=0, atol=1e-5 * float(row.abs().max()))
        assert float(loadings.totals().sum()) == pytest.approx(float(row.double().sum()), rel=1e-4, abs=1e-5)


def without_head(run, layer, head):
    pattern = run.layers[layer].pattern.clone()
    pattern[head] = 0
    changed = replace(run.layers[layer], pattern=pattern)
    return replace(run, layers=(*run.layers[:layer], changed, *run.layers[layer + 1 :]))


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel"])
@pytest.mark.parametrize(
    ("layer", "hop", "kind"), [(0, "first", "token"), (1, "last", "token"), (1, "first", "feature")]
)
def test_without_a_head_an_edge_loses_what_the_head_carries(name, layer, hop, kind):
    """True of the head at that end of every way: the lowest one for tokens, the only one for features below it."""
    run, coders = frozen(name), random_coders()
    target = token_targets(small_model(name), run, [5])[0]
    sources = find_sources(run, coders)
    whole, loadings = explain(run, coders, [target]), load_heads(run, sources, target, hop)
    columns = whole.columns.slices[kind]
    if kind == "feature":
        columns = slice(0, int((whole.features[:, 0] < layer).sum()))
    for head in range(4):
        less = explain(without_head(run, layer, head), coders, [target])
        lost = (whole.edges - less.edges)[len(whole.features), columns]
        carried = loadings.parts[loadings.carriers.index(f"L{layer}.H{head}"), columns]
        assert lost.abs().max() > 1e-4
        assert torch.allclose(lost, carried, rtol=0, atol=2e-6)


def test_the_planted_head_carries_the_planted_edge():
    model, coders = load("planted:sparse_mlp"), planted_coders("planted:sparse_mlp")
    run = freeze_run(model, model.tokens("stone red cat"))
    loadings = load_heads(run, find_sources(run, coders), feature_target(run, coders, 0, 0))
    red = loadings.columns.slices["token"].start + 2
    (carrier, brought), *_ = loadings.of(red)
    assert carrier.startswith("L0.H")
    assert brought == pytest.approx(1.0, abs=2e-3)
    cat = loadings.columns.slices["token"].start + 3
    animal = load_heads(run, find_sources(run, coders), feature_target(run, coders, 0, 1))
    assert animal.of(cat, 1)[0][0] == "direct"


def test_an_unknown_hop_is_refused():
    run, coders = frozen("GPT2"), random_coders()
    with pytest.raises(ValueError, match="hop 'middle' is unknown: allowed are last, first"):
        load_heads(run, find_sources(run, coders), feature_target(run, coders, 0, 0), "middle")
