"""Cards and sums are what the tables of a circuit say, and a blinded circuit names nothing."""

import json
from dataclasses import replace

import pytest
from drawn_circuit import circuit

from workbench.circuit_card import blinded, clamp_words, is_circuit, node_card, node_labels, relabelled, sums_between
from workbench.result import Result


def test_a_card_has_the_strongest_inputs_and_outputs_with_their_signs():
    card = node_card(circuit("a colour", "an animal", "a coloured animal"), "1_0_2", count=2)
    assert card.label == "L1.F0@2 a coloured animal"
    assert [(edge.label, edge.weight) for edge in card.inputs] == [
        ("L0.F4@2 a colour", 2.25),
        ("L0.F5@2 an animal", -1.5),
    ]
    assert [(edge.node, edge.weight) for edge in card.outputs] == [("3_9_2", 20.0)]
    assert card.facts == {
        "kind": "feature",
        "layer": "1",
        "position": "2 cat",
        "activation": 1.25,
        "influence": 0.9,
    }
    assert node_card(circuit(), "3_9_2").facts["weight"] == 1.0


def test_an_edge_tells_what_carries_most_of_it_where_the_result_knows():
    row = {"source": "token 'red'@1", "target": "L0.F4@2", "weight": 1.0}
    carriers = [{**row, "carrier": "direct", "part": -0.2}, {**row, "carrier": "L0.H1", "part": 1.2}]
    result = circuit("a colour")
    told = replace(result, tables={**result.tables, "carriers": carriers})
    assert [(edge.label, edge.carrier) for edge in node_card(told, "0_4_2").inputs] == [("token 'red'@1", "L0.H1")]
    assert node_card(relabelled(told, {"0_4_2": "mine"}), "E_3_1").outputs[0].carrier == "L0.H1"
    assert node_card(told, "1_0_2").inputs[0].carrier == ""


def test_the_most_influential_nodes_come_first_and_targets_before_all():
    assert list(node_labels(circuit()))[:3] == ["3_9_2", "1_0_2", "0_4_2"]


def test_sums_between_groups_are_signed_and_leave_out_what_is_inside():
    groups = {"words": ["E_3_1", "E_4_2"], "early": ["0_4_2", "0_5_2"], "late": ["1_0_2", "3_9_2"]}
    rows = {(row["source"], row["target"]): (row["weight"], row["edges"]) for row in sums_between(circuit(), groups)}
    assert rows == {("words", "early"): (1.5, 2), ("early", "late"): (0.75, 2)}
    with pytest.raises(ValueError, match="L0.F4@2 is in 'one' and in 'two'"):
        sums_between(circuit(), {"one": ["0_4_2"], "two": ["0_4_2"]})


def test_sums_between_groups_are_those_of_the_library():
    from workbench.circuits.exchange import circuit_of_result
    from workbench.circuits.supernodes import Supernode, group

    groups = {"early": ("0_4_2", "0_5_2"), "late": ("1_0_2", "3_9_2")}
    whole = group(circuit_of_result(circuit(), "x"), [Supernode(*one) for one in groups.items()])
    expected = {(link.source, link.target): link.weight for link in whole.links}
    for row in sums_between(circuit(), groups):
        assert row["weight"] == expected[row["source"], row["target"]]


def test_a_blinded_circuit_tells_neither_names_nor_where_a_feature_fires():
    hidden = blinded(circuit("a colour", "an animal", "a coloured animal"))
    told = json.dumps([row for row in hidden.tables["nodes"] if row["kind"] == "feature"])
    assert not any(word in told for word in ("colour", "animal", "cat"))
    assert node_labels(hidden)["E_3_1"] == "token 'red'@1"
    assert hidden.tables["edges"] == circuit().tables["edges"]


def test_labels_of_a_person_stand_in_place_of_the_coders():
    named = relabelled(circuit("a colour"), {"0_4_2": "colours"})
    assert node_card(named, "1_0_2").inputs[0].label == "colours"
    assert clamp_words(circuit("a colour"), ["1_0_2", "E_3_1", "0_4_2"]) == "L1.F0@2,L0.F4@2"


def test_what_is_no_circuit_is_refused():
    assert is_circuit(circuit())
    assert not is_circuit(Result())
    with pytest.raises(KeyError, match="a result of transcoder_circuit"):
        node_card(Result(analysis="logit_lens"), "1_0_2")
    with pytest.raises(KeyError, match="the circuit has no node 'x'"):
        node_card(circuit(), "x")
    with pytest.raises(KeyError, match="the circuit has no node 'x'"):
        sums_between(circuit(), {"a": ["x"]})
