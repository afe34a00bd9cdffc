"""The transcoder circuit of a planted model is the planted one, and what it says adds up."""

import pytest
import torch
from circuit_parts import gemma_coders

from workbench import load, run
from workbench.circuits.exchange import circuit_of_result, read_circuit, save_circuit
from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.loadings import load_heads
from workbench.circuits.pruning import score
from workbench.circuits.sources import find_sources
from workbench.circuits.stored import graph_of_result
from workbench.circuits.targets import difference_target, top_logits
from workbench.coders.circuit_tracer import save_circuit_tracer
from workbench.coders.planting import planted_coders
from workbench.prompts import Prompt, Prompts
from workbench.result import Result


@pytest.fixture(scope="module")
def model():
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def result(model):
    return run("transcoder_circuit", model, Prompts.of("stone red cat"), node_threshold=1.0, edge_threshold=1.0)


def test_finds_the_planted_edges_with_their_signs(result):
    labels = {node["id"]: node["label"] for node in result.tables["nodes"]}
    edges = {(labels[edge["source"]], labels[edge["target"]]): edge["weight"] for edge in result.tables["edges"]}
    colour, animal = "L0.F0@3 a colour before", "L0.F1@3 an animal now"
    expected = {
        ("token 'red'@2", colour): 1.0,
        ("token 'cat'@3", animal): 1.0,
        (colour, "L1.F0@3 a coloured animal"): 2.25,
        (animal, "L1.F0@3 a coloured animal"): 1.5,
        (colour, "L1.F1@3 an animal"): -1.125,
        (animal, "L1.F1@3 an animal"): 1.5,
    }
    assert {pair: edges[pair] for pair in expected} == pytest.approx(expected, abs=2e-3)
    assert result.passed
    assert "The logit of 'runs' is" in result.finding


def test_paths_hold_the_inhibiting_one(result):
    paths = {row["path"]: row["product"] for row in result.tables["paths"]}
    through = "token 'red'@2 → L0.F0@3 (a colour before) → {} → 'runs'"
    assert paths[through.format("L1.F0@3 (a coloured animal)")] > 0
    against = paths[through.format("L1.F1@3 (an animal)")]
    direct = next(row["direct"] for row in result.tables["features"] if row["name"] == "an animal")
    assert against == pytest.approx(direct * -1.125 / 0.375 * 1.0 / 0.75 * 0.75 / 0.75, rel=5e-2)


def test_the_accounting_adds_up_and_no_error_is_left(result):
    (row,) = result.tables["accounting"]
    parts = ("feature", "error", "token", "position", "first", "bias", "left_out")
    assert sum(row[part] for part in parts) == pytest.approx(row["value"], rel=1e-5)
    assert abs(row["error"]) < 1e-5
    share = result.named("error_share").values
    assert abs(share[:, 1:][result.named("active").values[:, 1:] > 0]).max() < 1e-3
    assert result.scalars["replacement"] == pytest.approx(1.0, abs=1e-3)


def test_ablating_the_circuit_costs_more_than_ablating_random_features(result):
    curve, random = result.named("ablated").values, result.named("ablated_random").values
    assert curve[0] == pytest.approx(result.tables["targets"][0]["value"], rel=1e-4)
    assert curve[0] - curve[1] > 2 * (random[0] - random[1])


def test_a_difference_of_logits_is_that_of_the_library(model):
    prompt = Prompts.of(Prompt("stone red cat", target="runs", distractor="sleeps"))
    found = run("transcoder_circuit", model, prompt)
    frozen = freeze_run(model, model.tokens("stone red cat"))
    aim = difference_target(model, frozen, model.token("runs"), model.token("sleeps"))
    graph = explain(frozen, planted_coders("planted:sparse_mlp"), [aim])
    assert found.tables["accounting"][0]["feature"] == pytest.approx(float(graph.sums("feature")[-1]), rel=1e-5)
    assert found.scalars["completeness"] == pytest.approx(score(graph).completeness, abs=1e-6)
    assert found.finding.startswith("'runs' - 'sleeps' is")


def test_coders_come_from_a_folder_and_fewer_nodes_leave_the_rest_in_the_accounting(model, tmp_path):
    coders = planted_coders("planted:sparse_mlp")
    folder = save_circuit_tracer(coders, tmp_path / "coders")
    found = run("transcoder_circuit", model, Prompts.of("stone red cat"), coders=str(folder), max_nodes=1)
    (row,) = found.tables["accounting"]
    assert found.scalars["feature_nodes"] == 1
    assert row["left_out"] != 0
    assert found.passed
    assert any("left_out" in note for note in found.notes)


def test_mistakes_are_refused(model):
    with pytest.raises(ValueError, match="one prompt, found 2"):
        run("transcoder_circuit", model, Prompts.of("red cat", "blue river"))
    with pytest.raises(ValueError, match="max_nodes must be 1 or more, found 0"):
        run("transcoder_circuit", model, Prompts.of("red cat"), max_nodes=0)
    with pytest.raises(ValueError, match="against 'cat' needs a target"):
        run("transcoder_circuit", model, Prompts.of("red cat"), against="cat")
    other = load("planted:copy")
    with pytest.raises(ValueError, match="the MLPs of planted:copy are no transcoders"):
        run("transcoder_circuit", other, Prompts.of("red cat"))


def test_the_graph_is_read_back_from_a_saved_result_and_adds_up_again(result, tmp_path):
    graph = graph_of_result(Result.load(result.save(tmp_path / "result")))
    assert float(graph.missing().max()) < 1e-5
    assert graph.account() == [pytest.approx(row) for row in result.tables["accounting"]]
    labels = {node["id"]: node["label"].split(" ")[0] for node in result.tables["nodes"]}
    edges = {(labels[edge["source"]], labels[edge["target"]]): edge["weight"] for edge in result.tables["edges"]}
    names = [graph.name(row) for row in range(len(graph.features))]
    source, target = names.index("L0.F0@3"), names.index("L1.F1@3")
    assert float(graph.edges[target, source]) == edges["L0.F0@3", "L1.F1@3"]
    with pytest.raises(KeyError, match="holds no graph"):
        graph_of_result(Result())


def test_the_planted_head_carries_the_colour_and_the_word_itself_comes_directly(result):
    """What the head of layer 0 fetched is in the stream before any MLP, so later edges are direct."""
    rows = {(row["source"], row["target"]): row["carrier"] for row in reversed(result.tables["carriers"])}
    assert rows["token 'red'@2", "L0.F0@3"].startswith("L0.H")
    assert rows["token 'cat'@3", "L0.F1@3"] == "direct"
    assert rows["L1.F0@3", "'runs'"] == "direct"
    whole = float(result.named("carried").values.sum()) + result.scalars["carried_directly"]
    account = result.tables["accounting"][0]
    assert whole == pytest.approx(account["value"] - account["left_out"], rel=1e-4)


def test_features_that_read_and_write_alike_are_one_supernode(model):
    found = run("transcoder_circuit", model, Prompts.of("stone red cat"), similarity=-1.0, node_threshold=1.0)
    members = {frozenset(row["nodes"].split()) for row in found.tables["supernodes"]}
    last = {node["id"] for node in found.tables["nodes"] if node["kind"] == "feature" and node["ctx_idx"] == 3}
    assert frozenset(last) in members
    labels = {row["label"] for row in found.tables["supernodes"]}
    assert all({row["source"], row["target"]} & labels for row in found.tables["supernode_edges"])
    assert not run("transcoder_circuit", model, Prompts.of("stone red cat"), similarity=1.01).tables["supernodes"]


@pytest.mark.real
def test_every_row_of_a_real_model_adds_up(real_model):
    frozen = freeze_run(real_model, real_model.tokens("The capital of France is"))
    coders = gemma_coders(real_model, frozen)
    graph = explain(frozen, coders, top_logits(real_model, frozen, most=3))
    assert len(graph.features) > 500
    assert graph.missing().max() < 1e-5
    assert graph.gap < 1e-5
    row = graph.edges[len(graph.features)]
    for hop in ("last", "first"):
        loadings = load_heads(frozen, find_sources(frozen, coders), graph.targets[0], hop)
        assert torch.allclose(loadings.parts.sum(0), row, rtol=0, atol=1e-5 * float(row.abs().max()))


def test_a_result_becomes_a_circuit_file_also_after_it_was_saved(result, tmp_path):
    circuit = circuit_of_result(Result.load(result.save(tmp_path / "result")), "red-cat")
    assert read_circuit(save_circuit(circuit, tmp_path / "circuit.json")) == circuit
    ids = [node.node_id for node in circuit.nodes]
    assert {"0_0_3", "1_0_3", "E_4_2"} <= set(ids)
    assert [(link.source, link.target, link.weight) for link in circuit.links] == [
        (edge["source"], edge["target"], edge["weight"]) for edge in result.tables["edges"]
    ]
    assert circuit.metadata["prompt_tokens"] == ["<bos>", "stone", "red", "cat"]
    assert circuit.metadata["generation_settings"]["accounting"] == result.tables["accounting"]
    with pytest.raises(KeyError, match="a circuit file is made of a result of transcoder_circuit"):
        circuit_of_result(Result(), "red-cat")
