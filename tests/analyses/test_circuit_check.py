"""The planted circuit is necessary and enough; random sets of the same size are not."""

import pytest
from circuit_parts import gemma_coders

from workbench import load, run
from workbench.circuits.frozen import freeze_run
from workbench.circuits.interventions import Clamp, frozen_effects
from workbench.circuits.sufficiency import take_away
from workbench.circuits.targets import difference_target
from workbench.coders.circuit_tracer import save_circuit_tracer
from workbench.coders.planting import planted_coders
from workbench.prompts import Prompt, Prompts

TEXT = "blue dog stone red fox river red cat"
CIRCUIT = "inputs: L0.F0@8, L0.F1@8; outputs: 1_0_8 1_1_8"


@pytest.fixture(scope="module")
def model():
    return load("planted:sparse_mlp")


@pytest.fixture(scope="module")
def prompt():
    return Prompts.of(Prompt(TEXT, target="runs", distractor="sleeps"))


@pytest.fixture(scope="module")
def result(model, prompt):
    return run("circuit_check", model, prompt, nodes=CIRCUIT)


def test_the_planted_circuit_does_all_and_random_sets_do_little(result):
    assert result.named("necessity").values[0] == pytest.approx(1.0, abs=2e-2)
    assert result.named("sufficiency").values[0] == pytest.approx(1.0, abs=2e-2)
    assert abs(result.named("necessity_random").values).max() < 0.2
    assert abs(result.named("sufficiency_random").values).max() < 0.2
    assert result.passed
    assert "necessity 1.00 and sufficiency 1.00" in result.finding


def frozen_effects_of(nodes):
    """What ablating all of them at once does with everything else held."""
    model, coders = load("planted:sparse_mlp"), planted_coders("planted:sparse_mlp")
    frozen = freeze_run(model, model.tokens(TEXT))
    target = difference_target(model, frozen, model.token("runs"), model.token("sleeps"))
    places = [tuple(map(int, node.split("_"))) for node in nodes]
    clamps = [Clamp(layer, pos, number) for layer, number, pos in places]
    return float(frozen_effects(frozen, coders, clamps, [target])[0])


def test_each_supernode_is_necessary_and_inputs_alone_are_not_enough(result):
    """Without its inputs the second layer is silent; without the second layer its inputs say nothing."""
    rows = {row["set"]: row for row in result.tables["sets"]}
    assert rows["inputs"]["necessity"] == pytest.approx(1.0, abs=5e-2)
    assert rows["outputs"]["necessity"] == pytest.approx(1.0, abs=5e-2)
    assert rows["inputs"]["sufficiency"] == pytest.approx(0.0, abs=5e-2)
    assert rows["inputs"]["direct"] == pytest.approx(0.0, abs=1e-4)  # they speak through the others alone
    held = frozen_effects_of(["1_0_8", "1_1_8"])
    assert rows["outputs"]["direct"] == pytest.approx(held, rel=1e-4)
    assert {row["supernode"] for row in result.tables["members"]} == {"inputs", "outputs"}


def test_the_numbers_are_those_of_the_library(model, prompt, result):
    coders, frozen = planted_coders("planted:sparse_mlp"), freeze_run(model, model.tokens(prompt))
    target = difference_target(model, frozen, model.token("runs"), model.token("sleeps"))
    shares = take_away(model, frozen, coders, [[(0, 0, 8), (0, 1, 8), (1, 0, 8), (1, 1, 8)]], target)
    whole, without, _, only, _, none = result.named("value").values
    expected = [shares.whole, float(shares.without[0]), float(shares.only[0]), shares.none]
    assert [whole, without, only, none] == pytest.approx(expected, abs=1e-5)
    assert result.named("necessity").values[0] == pytest.approx((whole - without) / (whole - none), rel=1e-5)


def test_without_nodes_the_graph_chooses_them(model, prompt):
    found = run("circuit_check", model, prompt, node_threshold=0.95, fill="mean", draws=3)
    members = {row["feature"] for row in found.tables["members"]}
    assert {"L0.F0@8", "L0.F1@8", "L1.F0@8"} <= members
    assert found.named("necessity").values[0] > 0.8
    assert any("its mean over the prompt" in note for note in found.notes)


def test_mistakes_are_refused(model, prompt):
    for nodes, message in {
        "L0.F0@3, 0_0_3": r"L0.F0@3 is named twice",
        "L0.F0@9": "the prompt has 9 tokens",
        "L0.F999@3": "layer 0 has .* features",
        "L5.F0@3": "have the layers 0, 1",
        "red": "'red' is no feature of a circuit",
    }.items():
        with pytest.raises(ValueError, match=message):
            run("circuit_check", model, prompt, nodes=nodes)
    with pytest.raises(ValueError, match="draws must be 1 or more, found 0"):
        run("circuit_check", model, prompt, draws=0)
    with pytest.raises(ValueError, match="on one prompt, found 2"):
        run("circuit_check", model, Prompts.of("red cat", "blue river"))


@pytest.mark.real
def test_every_feature_of_a_real_model_kept_is_the_model_as_it_is(real_model, tmp_path):
    prompt = Prompts.of(Prompt("The capital of France is", target=" Paris", distractor=" London"))
    coders = gemma_coders(real_model, freeze_run(real_model, real_model.tokens(prompt)))
    folder = save_circuit_tracer(coders, tmp_path / "coders")
    found = run("circuit_check", real_model, prompt, coders=str(folder), draws=2)
    assert found.passed, found.checks
    assert found.scalars["active_features"] > 500
