"""Setting features: frozen it is the column of the graph, propagated it is the model itself."""

import pytest
import torch
from architectures import tiny_tokenizer
from circuit_parts import FAMILIES, double, frozen, graph_of, random_coders
from frozen_twin import FrozenTwin
from small_models import plain_twin, prompt_ids, small_model

from workbench.circuits.faithfulness import ablate_by_influence
from workbench.circuits.frozen import freeze_run
from workbench.circuits.graph import explain
from workbench.circuits.interventions import Clamp, ClampFeatures, frozen_effects, measure
from workbench.circuits.targets import feature_target, token_targets
from workbench.coders.attaching import attach
from workbench.coders.planting import planted_coders
from workbench.edit import clamp, edited
from workbench.model import load
from workbench.tracer import trace

OPTIONS = [{}, {"skip": True, "across": True}, {"activation": "topk"}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_frozen_change_is_the_column_of_the_graph(name, options):
    model, run, coders = small_model(name), frozen(name), random_coders(**options)
    targets = [*token_targets(model, run, [5, 6]), *(feature_target(run, coders, 1, one, pos=6) for one in (0, 3))]
    graph = explain(run, coders, targets)
    first = len(graph.features)
    for node in range(0, first, 9):
        layer, pos, number = graph.features[node].tolist()
        value = float(graph.activations[node])
        effect = frozen_effects(run, coders, [Clamp(layer, pos, number, 3 * value)], targets)
        assert torch.allclose(effect, 2 * graph.edges[first:, node], atol=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "GPTNeoX parallel"])
def test_a_frozen_change_is_what_a_frozen_plain_model_does(name, monkeypatch):
    softmax = torch.nn.functional.softmax
    monkeypatch.setattr("torch.nn.functional.softmax", lambda *args, dtype=None, **knobs: softmax(*args, **knobs))
    coders = double(random_coders(skip=True, across=True))
    model = load(plain_twin(name).double(), tokenizer=tiny_tokenizer())
    run = freeze_run(model, model.tokens_of([prompt_ids()]))
    targets = [*token_targets(model, run, [5]), feature_target(run, coders, 1, 3, pos=6)]
    graph = explain(run, coders, targets)
    for node in range(0, len(graph.features), 13):
        place, value = tuple(graph.features[node].tolist()), float(graph.activations[node])
        twin = FrozenTwin(name, plain_twin(name).double(), coders).run(prompt_ids())
        before = [float(twin.value(None, 8, 5).detach()), float(twin.value(1, 6, 3).detach())]
        twin.run(prompt_ids(), shifts={place: 2 * value})
        after = [float(twin.value(None, 8, 5).detach()), float(twin.value(1, 6, 3).detach())]
        moved = torch.tensor(after).double() - torch.tensor(before).double()
        assert torch.allclose(moved, 2 * graph.edges[len(graph.features) :, node], atol=1e-6)


def test_changes_of_several_features_add_up_when_frozen():
    run, coders = frozen("Gemma2"), random_coders(skip=True)
    targets = token_targets(small_model("Gemma2"), run, [5])
    clamps = [Clamp(0, 3, 1), Clamp(0, 5, 2, 1.5), Clamp(1, 8, 4, 2.0)]
    together = frozen_effects(run, coders, clamps, targets)
    alone = sum(frozen_effects(run, coders, [one], targets) for one in clamps)
    assert torch.allclose(together, alone, atol=1e-6)
    assert together.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel"])
def test_rows_of_a_batch_are_measured_each_by_itself(name):
    model, run, coders = small_model(name), frozen(name), random_coders(across=True)
    targets = [*token_targets(model, run, [5]), feature_target(run, coders, 1, 3, pos=4)]
    variants = [[], [Clamp(0, 4, 2, 5.0)], [Clamp(1, 8, 1, -3.0), Clamp(0, 4, 2, 5.0)]]
    together = measure(model, run, coders, variants, targets)
    alone = torch.cat([measure(model, run, coders, [one], targets) for one in variants])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together[0].tolist() == pytest.approx([target.value for target in targets], abs=1e-5)
    assert (together[1] - together[0]).abs().min() > 1e-4


def test_clamping_a_row_is_the_same_as_attaching_the_coders_with_a_change():
    model, coders = small_model("GPT2"), random_coders(across=True)
    ids = model.tokens_of([prompt_ids()])
    with edited(model, [ClampFeatures(coders, [[Clamp(0, 4, 2, 5.0), Clamp(1, 6, 1, 0.0)]])]):
        found = trace(model, ids, ["L1.resid_post"])
    changes = [("L0.F2.mlp_out@4", clamp(5.0)), ("L1.F1.mlp_out@6", clamp(0.0))]
    with edited(model, [attach(coders, changes=changes)]):
        expected = trace(model, ids, ["L1.resid_post"])
    assert torch.allclose(found["L1.resid_post"], expected["L1.resid_post"], atol=1e-5)
    assert not torch.allclose(found["L1.resid_post"], trace(model, ids, ["L1.resid_post"])["L1.resid_post"], atol=1e-2)


def test_ablating_the_planted_features_takes_the_answer_away_and_random_ones_do_not():
    model = load("planted:sparse_mlp")
    coders = planted_coders("planted:sparse_mlp")
    run = freeze_run(model, model.tokens("stone red cat"))
    graph = explain(run, coders, token_targets(model, run, [model.token("runs")]))
    curve = ablate_by_influence(model, run, coders, graph, counts=(1, 2, 3, 99), draws=20)
    assert curve.counts[0] == 0
    assert max(curve.counts) <= len(graph.features) // 2
    assert float(curve.strongest[0]) == pytest.approx(graph.targets[0].value, rel=1e-4)
    lost, others = curve.strongest[0] - curve.strongest[1], curve.random[:, 0] - curve.random[:, 1]
    assert lost > 0.9 * curve.strongest[0].abs()
    assert others.mean() < 0.5 * lost


def test_the_curve_repeats_itself():
    model, run, coders, graph = small_model("Llama"), frozen("Llama"), random_coders(), graph_of("Llama")
    first, second = (ablate_by_influence(model, run, coders, graph, seed=3) for _ in range(2))
    assert torch.equal(first.random, second.random)
    assert torch.equal(first.strongest, second.strongest)
