"""Circuit files: what is written is read back, ids never collide, and the schema is the one that viewers know."""

import json

import pytest
from circuit_parts import frozen, graph_of
from small_models import small_model

from workbench.circuits.exchange import Circuit, Node, circuit_of, read_circuit, save_circuit
from workbench.circuits.pruning import prune
from workbench.circuits.targets import difference_target, token_targets


def circuit(name="GPT2", **thresholds):
    run, model = frozen(name), small_model(name)
    targets = [*token_targets(model, run, [5, 6]), difference_target(model, run, 5, 6)]
    graph = graph_of(name, targets=targets)
    settings = {"node_threshold": 1.0, "edge_threshold": 1.0} | thresholds
    return graph, circuit_of(graph, prune(graph, **settings), slug="a-b", scan="s", vocabulary=128, settings=settings)


def test_a_file_is_read_back_as_it_was_written(tmp_path):
    _, made = circuit(node_threshold=0.8, edge_threshold=0.9)
    assert read_circuit(save_circuit(made, tmp_path / "circuit.json")) == made


def test_every_id_is_its_own_also_where_circuit_tracer_s_collide():
    graph, made = circuit()
    ids = [node.node_id for node in made.nodes]
    assert len(set(ids)) == len(ids) == graph.columns.slices["token"].stop + len(graph.targets)
    theirs = {f"0_{layer}_{pos}" for layer in range(2) for pos in range(9)}
    assert theirs & set(ids), "in this graph an error with circuit-tracer's id would be taken for a feature"


def test_links_are_the_signed_edges_of_the_graph():
    graph, made = circuit()
    layer, pos, number = graph.features[0].tolist()
    name = f"{layer}_{number}_{pos}"
    weights = {link.target: link.weight for link in made.links if link.source == name}
    column = graph.edges[:, 0]
    assert len(weights) == int((column != 0).sum())
    assert weights["3_5_8"] == float(column[len(graph.features)])
    assert weights["3_130_8"] == float(column[-1])  # a difference of logits is no token: 128 + its number


def test_the_schema_has_what_viewers_need(tmp_path):
    _, made = circuit(node_threshold=0.8, edge_threshold=0.9)
    held = json.loads(save_circuit(made, tmp_path / "circuit.json").read_text())
    assert set(held) == {"metadata", "qParams", "nodes", "links"}
    assert {"slug", "scan", "prompt_tokens", "prompt"} <= set(held["metadata"])
    assert {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"} <= set(held["qParams"])
    needed = {"node_id", "feature", "layer", "ctx_idx", "feature_type", "jsNodeId", "clerp"}
    assert all(needed <= set(node) for node in held["nodes"])
    kinds = {"cross layer transcoder", "mlp reconstruction error", "embedding", "logit"}
    assert {node["feature_type"] for node in held["nodes"]} <= kinds
    feature = next(node for node in held["nodes"] if node["feature_type"] == "cross layer transcoder")
    layer, number, pos = map(int, feature["node_id"].split("_"))
    assert feature["feature"] == (layer + number) * (layer + number + 1) // 2 + number
    assert (feature["layer"], feature["ctx_idx"]) == (str(layer), pos)
    account = held["metadata"]["generation_settings"]["accounting"]
    assert all(one["sum"] == pytest.approx(one["value"], abs=1e-4) for one in account)


def test_files_of_others_are_read_and_broken_ones_refused(tmp_path):
    file = tmp_path / "theirs.json"
    node = {"node_id": "0_3_1", "feature": 9, "layer": 0, "ctx_idx": 1, "feature_type": "f", "jsNodeId": "0_3-0"}
    node |= {"clerp": "", "their_own": 1}
    other = node | {"node_id": "3_5_1", "layer": "3"}
    links = [{"source": "0_3_1", "target": "3_5_1", "weight": -0.5}]
    file.write_text(json.dumps({"metadata": {}, "nodes": [node, other], "links": links}))
    assert read_circuit(file).nodes[0].layer == "0"
    assert read_circuit(file).links[0].weight == -0.5
    file.write_text(json.dumps({"metadata": {}, "nodes": [node, node], "links": []}))
    with pytest.raises(ValueError, match="node id '0_3_1' stands for 2 nodes"):
        read_circuit(file)
    file.write_text(json.dumps({"metadata": {}, "nodes": [node], "links": links}))
    with pytest.raises(ValueError, match="the link from '0_3_1' to '3_5_1' leads to no node"):
        read_circuit(file)
    file.write_text(json.dumps({"metadata": {}, "nodes": [{"node_id": "a"}], "links": []}))
    with pytest.raises(ValueError, match="a node has no feature, layer"):
        read_circuit(file)
    for text, message in (("[]", "it has no metadata, nodes, links"), ("{", "is no circuit file")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_circuit(file)
    graph, _ = circuit()
    with pytest.raises(ValueError, match="may hold letters, digits"):
        circuit_of(graph, prune(graph), slug="a b", scan="", vocabulary=128)
    assert Circuit({}, (Node("a", None, "0", 0, "f", "a", ""),), ()).links == ()
