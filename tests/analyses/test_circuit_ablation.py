"""Ablating the features of a planted circuit does what its graph says, and what the model itself says."""

import pytest
import torch

from workbench import load, run
from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.targets import difference_target, token_targets
from workbench.coders.planting import planted_coders
from workbench.edit import edited, zero
from workbench.prompts import Prompt, Prompts
from workbench.tracer import trace
from workbench.words import Site

NAME, PROMPT = "planted:sparse_mlp", "stone red cat"


@pytest.fixture(scope="module")
def model():
    return load(NAME)


@pytest.fixture(scope="module")
def result(model):
    asked = Prompts.of(Prompt(PROMPT, target="runs"))
    return run("circuit_ablation", model, asked, features="L0.F0@3, L1.F1@-1,L1.F0@3")


def test_taking_the_planted_feature_away_takes_the_answer_away(result):
    rows = {row["feature"]: row for row in result.tables["effects"]}
    assert rows["L1.F0@3"]["activation"] == pytest.approx(1.25, abs=2e-3)
    assert rows["L1.F0@3"]["measured"] < -15
    assert rows["L0.F0@3"]["measured"] < -15, "without the colour the coloured animal is not active"
    assert result.passed
    assert result.finding.startswith("Without L0.F0@3 and 2 more, 'runs' is")


def test_the_direct_effect_is_the_column_of_the_graph(model, result):
    frozen = freeze_run(model, model.tokens(PROMPT))
    graph = explain(frozen, planted_coders(NAME), token_targets(model, frozen, [model.token("runs")]))
    columns = {graph.name(place): float(graph.edges[-1, place]) for place in range(len(graph.features))}
    expected = [-columns[name] for name in ("L0.F0@3", "L1.F1@3", "L1.F0@3")]
    assert result.named("direct").values[:3] == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert result.named("direct").values[3] == pytest.approx(sum(expected), rel=1e-4)


def test_the_measured_effect_is_that_of_the_plain_neuron_of_the_model(model):
    """In this model the features are the neurons of the MLP, so another engine can take one away."""
    prompt = Prompts.of(Prompt(PROMPT, target="runs", distractor="sleeps"))
    found = run("circuit_ablation", model, prompt, features="L1.F0@3")
    frozen = freeze_run(model, model.tokens(PROMPT))
    aim = difference_target(model, frozen, model.token("runs"), model.token("sleeps"))
    with edited(model, [(Site("mlp_post", 1, neuron=0, pos=3), zero())]):
        logits = trace(model, model.tokens(PROMPT), "logits").logits[0, -1]
    now = float(logits[model.token("runs")] - logits[model.token("sleeps")])
    assert float(found.named("measured").values[0]) == pytest.approx(now - aim.value, rel=1e-4)


def test_random_features_of_the_same_size_change_less(model):
    found = run("circuit_ablation", model, Prompts.of(Prompt(PROMPT, target="runs")), draws=4)
    (name,) = found.named("direct").names("component")
    assert name == "L1.F0@3", "without a name, the feature of the largest direct effect"
    assert abs(found.named("random").values).max() < abs(found.named("measured").values[0])
    assert "of the same size" in found.finding


def test_a_value_beside_zero_pushes_the_other_way_in_proportion(model):
    prompt = Prompts.of(Prompt(PROMPT, target="runs"))
    asked = {"features": "L1.F0@3"}
    plain, double = (run("circuit_ablation", model, prompt, value=value, **asked) for value in (0.0, 2.5))
    before = plain.tables["effects"][0]["activation"]
    slope = -float(plain.named("direct").values[0]) / before
    assert float(double.named("direct").values[0]) == pytest.approx(slope * (2.5 - before), rel=1e-4)
    assert double.finding.startswith("With L1.F0@3 at 2.5")


def test_a_feature_that_is_not_active_does_nothing_and_is_named(model):
    found = run("circuit_ablation", model, Prompts.of(Prompt(PROMPT, target="runs")), features="L1.F2@3")
    assert float(found.named("measured").values[0]) == pytest.approx(0.0, abs=1e-4)
    assert any("Not active on this prompt: L1.F2@3" in note for note in found.notes)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ("0_0_3", "'0_0_3' is not written like L0.F0@3"),
        ("L0.F0@9", "the prompt has 4 tokens"),
        ("L0.F99@3", "layer 0 has 14 features"),
        ("L0.F0@3,L0.F0@-1", "is named twice"),
        (" , ", "no feature is named"),
    ],
)
def test_mistakes_are_refused(model, features, told):
    with pytest.raises(ValueError, match=told):
        run("circuit_ablation", model, Prompts.of(PROMPT), features=features)


@pytest.mark.real
def test_ablating_what_is_held_adds_up_on_a_real_model(real_model, tmp_path):
    from circuit_parts import gemma_coders

    from workbench.coders.circuit_tracer import save_circuit_tracer

    prompt = "The capital of France is"
    coders = gemma_coders(real_model, freeze_run(real_model, real_model.tokens(prompt)))
    folder = save_circuit_tracer(coders, tmp_path / "coders")
    found = run("circuit_ablation", real_model, Prompts.of(Prompt(prompt, target=" Paris")), coders=str(folder))
    assert found.passed
    assert torch.isfinite(torch.tensor(found.named("measured").values)).all()
