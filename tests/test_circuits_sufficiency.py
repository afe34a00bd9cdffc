"""Necessity and sufficiency: a planted circuit is both, and each pass is what hooks on the model give."""

import pytest
import torch
from circuit_parts import frozen, random_coders
from small_models import small_model

from workbench import load
from workbench.circuits.frozen import freeze_run
from workbench.circuits.sources import find_sources
from workbench.circuits.sufficiency import take_away
from workbench.circuits.targets import difference_target, token_targets
from workbench.coders.planting import planted_coders
from workbench.edit import edited
from workbench.tracer import trace


def test_the_planted_circuit_is_necessary_and_enough_and_the_rest_is_neither():
    model, coders = load("planted:sparse_mlp"), planted_coders("planted:sparse_mlp")
    run = freeze_run(model, model.tokens("stone red cat"))
    target = difference_target(model, run, model.token("runs"), model.token("sleeps"))
    circuit = [(0, 0, 3), (0, 1, 3), (1, 0, 3), (1, 1, 3)]
    active = [(layer, number, pos) for layer, pos, number in find_sources(run, coders).features.tolist()]
    rest = [place for place in active if place not in circuit]
    found = take_away(model, run, coders, [circuit, rest, active], target)
    assert found.necessity.tolist() == pytest.approx([1.0, 0.0, 1.0], abs=2e-2)
    assert found.sufficiency.tolist() == pytest.approx([1.0, 0.0, 1.0], abs=2e-2)
    assert found.whole == pytest.approx(target.value, rel=1e-4)


@pytest.mark.parametrize("fill", ["zero", "mean"])
@pytest.mark.parametrize("name", ["GPT2", "Gemma3", "GPTNeoX parallel"])
def test_a_pass_with_a_set_alone_is_that_of_hooks_written_by_hand(name, fill):
    model, run, coders = small_model(name), frozen(name), random_coders(skip=True)
    (target,) = token_targets(model, run, [5])
    kept = [(0, 3, 4), (0, 7, 8), (1, 2, 8)]
    found = take_away(model, run, coders, [kept], target, fill=fill)

    class ByHand:
        fired = True

        def attach(self, model):
            handles = []
            for layer, coder in coders.items():
                held = {}

                def read(x, held=held):
                    held["x"] = x

                def write(out, held=held, layer=layer, coder=coder):
                    values = coder.encode(held["x"])
                    mean = coder.encode(run.layers[layer].mlp_in[1:]).mean(0)
                    wanted = torch.zeros_like(values) + (mean if fill == "mean" else 0)
                    for place, number, pos in kept:
                        if place == layer:
                            wanted[:, pos, number] = values[:, pos, number]
                    wanted[:, 0] = values[:, 0]
                    return out + (wanted - values) @ coder.w_dec

                handles += model.places.attach(_site("mlp_in", layer), read)
                handles += model.places.attach(_site("mlp_out", layer), write)
            return handles

    with edited(model, [ByHand()]):
        stream = trace(model, model.tokens_of([run.ids]), ["L1.resid_post"])["L1.resid_post"][0, -1]
    expected = float(model.bridge.ln_final(stream[None])[0] @ target.vector) + target.constant
    assert float(found.only[0]) == pytest.approx(expected, abs=1e-4)


def _site(kind, layer):
    from workbench.words import Site

    return Site(kind, layer)


def test_every_active_feature_kept_is_the_model_as_it_is_but_for_those_that_wake_up():
    model, run, coders = small_model("Llama"), frozen("Llama"), random_coders()
    (target,) = token_targets(model, run, [5])
    active = [(layer, number, pos) for layer, pos, number in find_sources(run, coders).features.tolist()]
    found = take_away(model, run, coders, [active], target)
    assert float(found.only[0]) == pytest.approx(found.whole, abs=1e-5)
    assert float(found.sufficiency[0]) == pytest.approx(1.0, abs=1e-3)
    assert float(take_away(model, run, coders, [[]], target).necessity[0]) == 0.0
