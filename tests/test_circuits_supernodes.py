"""Supernodes: sums of edges are kept, and features that are alike are found together."""

from dataclasses import replace

import pytest
import torch
from circuit_parts import graph_of, random_coders

from workbench.circuits.exchange import FEATURE, Circuit, Link, Node, circuit_of, read_circuit, save_circuit
from workbench.circuits.pruning import prune
from workbench.circuits.supernodes import (
    Supernode,
    _joined,
    alike,
    feature_place,
    group,
    read_supernodes,
    supernodes_of,
    with_supernodes,
)
from workbench.coders import Transcoder


@pytest.fixture(scope="module")
def circuit():
    graph = graph_of("Llama")
    return circuit_of(graph, prune(graph, 0.9, 0.9), slug="a", scan="s", vocabulary=128)


def test_no_edge_is_lost_and_each_sum_is_that_of_the_matrix(circuit):
    features = [node.node_id for node in circuit.nodes if node.feature_type == FEATURE]
    groups = (Supernode("low", tuple(features[:5])), Supernode("high", tuple(features[-4:])))
    grouped = group(circuit, groups)
    total = sum(link.weight for link in circuit.links)
    found = sum(link.weight for link in grouped.links) + sum(grouped.inside.values())
    assert found == pytest.approx(total, abs=1e-9)
    place = {node.node_id: index for index, node in enumerate(circuit.nodes)}
    matrix = torch.zeros(len(place), len(place), dtype=torch.float64)
    for link in circuit.links:
        matrix[place[link.target], place[link.source]] = link.weight
    low, high = ([place[node] for node in one.nodes] for one in groups)
    edges = {(link.source, link.target): link.weight for link in grouped.links}
    assert edges.get(("low", "high"), 0.0) == pytest.approx(float(matrix[high][:, low].sum()), abs=1e-9)
    assert grouped.inside["low"] == pytest.approx(float(matrix[low][:, low].sum()), abs=1e-9)
    token = next(node.node_id for node in circuit.nodes if node.node_id.startswith("E_"))
    assert edges.get((token, "low"), 0.0) == pytest.approx(float(matrix[low][:, place[token]].sum()), abs=1e-9)


def node(name, kind=FEATURE):
    layer, pos = name.split("_")[0], int(name.split("_")[-1])
    return Node(name, None, layer, pos, kind, name, "")


TWINS = Circuit(
    {},
    tuple(map(node, ("0_0_1", "0_1_1", "0_2_1", "0_3_2"))) + (node("E_7_1", "embedding"), node("3_5_2", "logit")),
    (
        Link("E_7_1", "0_0_1", 1.0),
        Link("E_7_1", "0_1_1", 0.5),
        Link("E_7_1", "0_2_1", 1.0),
        Link("E_7_1", "0_3_2", 1.0),
        Link("0_0_1", "3_5_2", 2.0),
        Link("0_1_1", "3_5_2", 1.0),
        Link("0_2_1", "3_5_2", -2.0),
        Link("0_3_2", "3_5_2", 2.0),
    ),
)
"""Two twins, an opponent of theirs, and a twin at another position."""


def test_twins_are_found_and_neither_an_opponent_nor_another_position_joins_them():
    assert [one.nodes for one in alike(TWINS)] == [("0_0_1", "0_1_1")]
    turned = replace(TWINS, nodes=TWINS.nodes[::-1], links=TWINS.links[::-1])
    assert alike(turned) == alike(TWINS)
    assert [one.nodes for one in alike(TWINS, similarity=-0.5)] == [("0_0_1", "0_1_1", "0_2_1")]
    assert alike(TWINS, similarity=1.1) == ()


def test_decoders_that_differ_keep_twins_apart():
    def coder(*rows):
        return {0: Transcoder(0, torch.ones(4, 2), torch.zeros(4), torch.tensor(rows), torch.zeros(2))}

    same = coder([1.0, 0.0], [2.0, 0.0], [1.0, 0.0], [1.0, 0.0])
    against = coder([1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [1.0, 0.0])
    assert [one.nodes for one in alike(TWINS, same)] == [("0_0_1", "0_1_1")]
    assert alike(TWINS, against) == ()


def test_every_group_of_a_real_graph_is_as_alike_as_was_asked(circuit):
    groups = alike(circuit, random_coders(), similarity=0.4)
    assert groups
    for one in groups:
        assert len({feature_place(member)[2] for member in one.nodes}) == 1
    assert len({one.label for one in groups}) == len(groups)
    assert group(circuit, groups)


def test_groups_are_those_of_plain_average_linkage():
    vectors = torch.nn.functional.normalize(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double())
    likeness = vectors @ vectors.T
    groups = [[place] for place in range(12)]
    while True:
        pairs = [
            (float(likeness[one][:, other].mean()), first, first + 1 + later)
            for first, one in enumerate(groups)
            for later, other in enumerate(groups[first + 1 :])
        ]
        best, first, second = max(pairs)
        if best < 0.3:
            break
        groups[first] = sorted(groups[first] + groups.pop(second))
    assert 1 < len(groups) < 12
    assert _joined(likeness, 0.3) == groups


def test_supernodes_are_kept_in_the_file_and_read_from_words(circuit, tmp_path):
    features = [one.node_id for one in circuit.nodes if one.feature_type == FEATURE]
    groups = read_supernodes(f"low: {features[0]}, {features[1]}; {features[2]}")
    assert groups == (Supernode("low", tuple(features[:2])), Supernode(features[2], (features[2],)))
    kept = read_circuit(save_circuit(with_supernodes(circuit, groups), tmp_path / "circuit.json"))
    assert supernodes_of(kept) == groups


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([Supernode("a", ())], "'a' has no member"),
        ([Supernode("a", ("9_9_9",))], "has no node '9_9_9'"),
        ([Supernode("a", ("0_0_1",)), Supernode("b", ("0_0_1",))], "'0_0_1' is in two supernodes"),
        ([Supernode("a", ("0_0_1",)), Supernode("a", ("0_1_1",))], "'a' stands for two things"),
        ([Supernode("0_1_1", ("0_0_1",))], "'0_1_1' stands for two things"),
    ],
)
def test_mistakes_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        group(TWINS, groups)


def test_words_that_name_no_feature_are_refused():
    with pytest.raises(ValueError, match="'colours:' has no member"):
        read_supernodes("colours:")
    with pytest.raises(ValueError, match="'E_7_1' is no feature"):
        feature_place("E_7_1")
