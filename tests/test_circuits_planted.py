"""Circuits that were written by hand: nodes, signed edges and paths are what the hand says."""

from dataclasses import replace

import pytest
import torch

from workbench.circuits.frozen import FrozenLayer, FrozenNorms, FrozenRun, freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.paths import find_paths
from workbench.circuits.pruning import score
from workbench.circuits.targets import direction_target, token_targets
from workbench.coders import Transcoder, Transcoders
from workbench.coders.planting import planted_coders
from workbench.model import load

EXACT = 1e-6
SLOTS = ("now X", "now A", "now B", "prev X", "prev A", "prev B", "B", "after A", "unread", "both", "alone", "never")
PROMPT = ("X", "A", "B")


def slot(name):
    return torch.eye(len(SLOTS))[SLOTS.index(name)]


def coder(layer, *features):
    """A ReLU transcoder from (what it reads, bias, what it writes)."""
    reads = [sum(weight * slot(name) for name, weight in read.items()) for read, _, _ in features]
    return Transcoder(
        layer=layer,
        w_enc=torch.stack(reads),
        b_enc=torch.tensor([bias for _, bias, _ in features]),
        w_dec=torch.stack([slot(write) for *_, write in features]),
        b_dec=torch.zeros(len(SLOTS)),
    )


CODERS = Transcoders(
    "by hand",
    {
        0: coder(
            0,
            ({"now B": 1.0}, -0.25, "B"),
            ({"prev A": 1.0}, -0.25, "after A"),
            ({"now B": 1.0}, -0.5, "unread"),  # a decoy: it fires and nobody reads it
        ),
        1: coder(
            1,
            ({"B": 2.0, "after A": 3.0}, -2.0, "both"),
            ({"B": 2.0, "after A": -1.5}, 0.5, "alone"),  # inhibited by what precedes it
            ({"B": 2.0, "after A": 2.0}, -9.0, "never"),  # connected and silent
        ),
    },
)


def run_by_hand():
    """A transformer of two layers without norms: a head that copies the previous token, and two ReLU MLPs."""
    width, length = len(SLOTS), len(PROMPT)
    plain = FrozenNorms.nothing(length, width)
    carried = torch.stack([slot(f"now {token}") for token in "XAB"], dim=1)
    written = torch.stack([slot(f"prev {token}") for token in "XAB"])
    previous = torch.eye(length).roll(-1, 1).tril()  # the first token has none, and reads nothing
    stream = torch.stack([slot(f"now {token}") for token in PROMPT])
    tokens, layers = stream, []
    for layer in range(2):
        outputs = written if layer == 0 else torch.zeros_like(written)
        entering = stream
        stream = stream + previous @ stream @ carried @ outputs
        added = CODERS[layer].predict(stream)
        layers.append(
            FrozenLayer(
                before_attention=plain,
                values=carried[None],
                value_bias=torch.zeros(1, 3),
                pattern=previous[None],
                outputs=outputs[None],
                output_bias=torch.zeros(width),
                behind_attention=plain,
                before_mlp=plain,
                sequential=True,
                resid_pre=entering,
                mlp_in=stream,
                mlp_out=added,
            )
        )
        stream = stream + added
    return FrozenRun((0, 1, 2), PROMPT, tuple(layers), tokens, torch.zeros_like(tokens), plain, stream)


@pytest.fixture(scope="module")
def by_hand():
    run = run_by_hand()
    return explain(run, CODERS, [direction_target(run, "answer", 2 * slot("both") + slot("alone"))], keep_first=False)


TRUTH = {
    "L0.F0@2": {"token 'B'@2": 1.0, "bias": -0.25},
    "L0.F1@2": {"token 'A'@1": 1.0, "bias": -0.25},
    "L0.F2@2": {"token 'B'@2": 1.0, "bias": -0.5},
    "L1.F0@2": {"L0.F0@2": 1.5, "L0.F1@2": 2.25, "bias": -2.0},
    "L1.F1@0": {"bias": 0.5},
    "L1.F1@1": {"bias": 0.5},
    "L1.F1@2": {"L0.F0@2": 1.5, "L0.F1@2": -1.125, "bias": 0.5},
    "answer": {"L1.F0@2": 3.5, "L1.F1@2": 0.875},
}
"""Every node that is active, and every edge that enters it."""


def test_nodes_and_signed_edges_are_those_of_the_hand(by_hand):
    names = [by_hand.column_name(column) for column in range(by_hand.columns.count)]
    found = {
        by_hand.name(row): {name: float(edge) for name, edge in zip(names, edges, strict=True) if edge != 0}
        for row, edges in enumerate(by_hand.edges)
    }
    assert found.keys() == TRUTH.keys()
    for node, edges in TRUTH.items():
        assert found[node] == pytest.approx(edges, abs=EXACT)
    assert by_hand.values.tolist() == pytest.approx([0.75, 0.75, 0.5, 0.5, 0.5, 1.75, 0.875, 4.375], abs=EXACT)


def test_the_decoy_is_a_node_without_edges_and_the_silent_unit_is_none(by_hand):
    decoy = [by_hand.name(row) for row in range(len(by_hand.features))].index("L0.F2@2")
    assert not by_hand.edges[:, decoy].any()
    assert "L1.F2@2" not in TRUTH


def test_all_paths_and_their_products_are_those_of_the_hand(by_hand):
    found = {
        tuple(by_hand.column_name(column) for column in path.columns): path.product
        for path in find_paths(by_hand, count=100)
    }
    assert found == pytest.approx(
        {
            ("bias", "L1.F0@2"): -4.0,
            ("token 'B'@2", "L0.F0@2", "L1.F0@2"): 4.0,
            ("bias", "L0.F0@2", "L1.F0@2"): -1.0,
            ("token 'A'@1", "L0.F1@2", "L1.F0@2"): 6.0,
            ("bias", "L0.F1@2", "L1.F0@2"): -1.5,
            ("bias", "L1.F1@2"): 0.5,
            ("token 'B'@2", "L0.F0@2", "L1.F1@2"): 2.0,
            ("bias", "L0.F0@2", "L1.F1@2"): -0.5,
            ("token 'A'@1", "L0.F1@2", "L1.F1@2"): -1.5,  # the inhibitor
            ("bias", "L0.F1@2", "L1.F1@2"): 0.375,
        },
        abs=EXACT,
    )
    assert sum(found.values()) == pytest.approx(4.375, abs=EXACT)


def test_where_the_mlp_is_its_transcoder_nothing_is_an_error(by_hand):
    assert by_hand.edges[:, by_hand.columns.slices["error"]].abs().max() <= EXACT
    assert score(by_hand).replacement == pytest.approx(1.0, abs=EXACT)
    assert score(by_hand).completeness == pytest.approx(1.0, abs=EXACT)


@pytest.fixture(scope="module")
def planted():
    model = load("planted:sparse_mlp", dtype="float64")
    coders = planted_coders("planted:sparse_mlp").to(dtype=torch.float64)
    run = freeze_run(model, model.tokens("stone red cat"))
    return model, coders, run, explain(run, coders, token_targets(model, run, [model.token("runs")]))


def test_a_whole_transformer_shows_its_planted_features_and_edges(planted):
    _, coders, run, graph = planted
    names, places = coders.card["features"], graph.features.tolist()
    last = len(run.ids) - 1
    values = {
        names[layer][number]: float(value)
        for (layer, pos, number), value in zip(places, graph.activations, strict=True)
        if pos == last
    }
    hand = {
        "a colour before": 0.75,
        "an animal now": 0.75,
        "cat now": 0.5,
        "a coloured animal": 1.25,
        "an animal": 0.375,
    }
    assert values == pytest.approx(hand, abs=2e-3)
    node = {names[layer][number]: row for row, (layer, pos, number) in enumerate(places) if pos == last}
    mid = run.layers[1].before_mlp.gain[last].abs().max()  # what LayerNorm multiplies by: nearly 1
    assert float(mid) == pytest.approx(1.0, abs=2e-3)
    for source, target, weight in (
        ("a colour before", "a coloured animal", 3.0),
        ("an animal now", "a coloured animal", 2.0),
        ("a colour before", "an animal", -1.5),
        ("an animal now", "an animal", 2.0),
        ("cat now", "a coloured animal", 0.0),
        ("cat now", "an animal", 0.0),
    ):
        edge = float(graph.edges[node[target], node[source]])
        assert edge == pytest.approx(weight * values[source] * float(mid), abs=EXACT)
    target = graph.edges[len(places)]
    assert target[node["a coloured animal"]] > 10 * target[node["an animal"]].abs()


def test_a_whole_transformer_whose_mlps_are_transcoders_has_no_error_and_adds_up(planted):
    *_, graph = planted
    assert graph.edges[:, graph.columns.slices["error"]].abs().max() <= EXACT
    assert graph.missing().max() <= 1e-10
    assert score(graph).replacement == pytest.approx(1.0, abs=1e-4)


def test_the_strongest_path_to_the_answer_begins_at_the_colour_or_the_animal(planted):
    *_, graph = planted
    best = [path for path in find_paths(graph, count=10) if len(path.columns) == 3 and path.product > 0]
    texts = {graph.column_name(path.columns[0]) for path in best[:2]}
    assert texts == {"token 'red'@2", "token 'cat'@3"}


def test_a_feature_that_is_active_by_rounding_alone_does_not_spoil_the_accounting():
    """In 32 bits "an animal" reads a few times 1e-8 at a colour, where its inputs cancel."""
    model, coders = load("planted:sparse_mlp"), planted_coders("planted:sparse_mlp")
    run = freeze_run(model, model.tokens("blue dog stone red cat"))
    graph = explain(run, coders, token_targets(model, run, [model.token("runs")]))
    assert ((graph.values > 0) & (graph.values < 1e-6)).any()
    assert graph.missing().max() < 1e-5
    spoilt = replace(graph, edges=graph.edges * 1.001)
    assert spoilt.missing().max() > 1e-4
