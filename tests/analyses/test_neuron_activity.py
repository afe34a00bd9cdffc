"""Where a neuron fires: on the words that were planted for it, by the numbers that a hook on the plain model shows."""

import numpy as np
import pytest
import torch
from planting import changed, ids_of, planted, run
from small_models import plain_twin, small_model

from workbench.analyses.neuron_activity import neuron_activity
from workbench.analyses.neuron_vocabulary import neuron_vocabulary
from workbench.model import load
from workbench.prompts import Prompts

TEXTS = ("baba bobo dudu bibi", "dada dede")


def test_a_planted_reader_fires_on_its_word_more_than_the_rest_of_its_layer():
    """The other road: a hook on the plain model, at the entrance of the down projection."""
    model, built = load("planted:concepts"), planted("concepts")
    one = built.truth["reads"][0]
    text = f"baba {one['token'].strip()} bobo dudu"
    result = neuron_activity(model, Prompts.of(text), layer=one["layer"], neuron=one["neuron"])
    kept = []
    projection = built.model.model.layers[one["layer"]].mlp.down_proj
    handle = projection.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0][0]))
    run(built, ids_of(built, text))
    handle.remove()
    expected = kept[0].detach().float()
    np.testing.assert_allclose(result.named("activation").values, expected[:, one["neuron"]], atol=1e-5)
    np.testing.assert_allclose(result.named("usual").values, expected.abs().median(-1).values, atol=1e-5)
    first = result.tables["tokens"][0]
    own = expected.abs()[1:, one["neuron"]]
    assert first["pos"] == 1 + int(own.argmax())
    assert first["rank"] == int((expected.abs()[first["pos"]] > own.max()).sum())
    share = (expected.abs()[1:].amax(0) >= own.max()).float().mean()
    assert result.scalars["share_as_large"] == pytest.approx(float(share))
    assert result.passed


def test_without_the_neuron_the_mlp_lacks_just_what_it_is_said_to_write():
    """Activation times column is what a hook that silences the neuron takes from the MLP of a plain Llama."""
    twin, model = plain_twin("Llama"), small_model("Llama")
    text, layer, neuron = "w5 w6 w7 w8", 1, 9
    result = neuron_activity(model, Prompts.of(text), layer=layer, neuron=neuron)
    mlp = twin.model.layers[layer].mlp
    kept = {}

    def keep(name):
        return mlp.register_forward_hook(lambda _m, _i, out: kept.update({name: out[0].detach()}))

    handle = keep("with")
    twin(model.tokens(Prompts.of(text)).ids)
    handle.remove()

    def silence(gate):
        gate = gate.clone()
        gate[..., neuron] = 0
        return gate

    handle = keep("without")
    with changed(mlp.up_proj, silence), torch.no_grad():
        twin(model.tokens(Prompts.of(text)).ids)
    handle.remove()
    lost = (kept["with"] - kept["without"]).double()
    column = mlp.down_proj.weight.detach()[:, neuron].double()
    expected = lost @ column / (column @ column)
    np.testing.assert_allclose(result.named("activation").values, expected, atol=1e-5)


def test_several_prompts_are_ranked_together_and_one_is_drawn():
    model = load("planted:concepts")
    both = neuron_activity(model, Prompts.of(*TEXTS), layer=2, neuron=5, example=1, top=4)
    alone = [neuron_activity(model, Prompts.of(text), layer=2, neuron=5, top=4) for text in TEXTS]
    np.testing.assert_allclose(both.named("activation").values, alone[1].named("activation").values, atol=1e-5)
    found = sorted((abs(row["activation"]) for one in alone for row in one.tables["tokens"]), reverse=True)[:4]
    assert [abs(row["activation"]) for row in both.tables["tokens"]] == pytest.approx(found, abs=1e-5)
    assert all(row["pos"] > 0 for row in both.tables["tokens"])


def test_the_first_position_counts_when_it_is_asked_for():
    model = load("planted:concepts")
    prompts = Prompts.of(TEXTS[0])
    every = neuron_activity(model, prompts, layer=0, neuron=3, skip_first=False, top=50).tables["tokens"]
    some = neuron_activity(model, prompts, layer=0, neuron=3, top=50).tables["tokens"]
    assert len(every) == len(some) + 1
    assert {row["pos"] for row in every} - {row["pos"] for row in some} == {0}


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({"top": 0}, "top must be 1 or more"),
        ({"example": 1}, "there are 1 prompts"),
        ({"layer": 4}, "the model has 4 layers"),
        ({"neuron": 400}, "400"),
    ],
)
def test_what_is_not_there_is_refused(knobs, told):
    with pytest.raises(ValueError, match=told):
        neuron_activity(load("planted:concepts"), Prompts.of(TEXTS[0]), **knobs)


@pytest.mark.real
def test_a_neuron_of_a_real_model_fires_where_its_own_reading_says(real_model):
    """The neuron whose activation is largest at a token has rank 0 there, and its checks pass."""
    from workbench.tracer import trace

    prompts = Prompts.of("The capital of France is Paris, and the capital of Italy is")
    post = trace(real_model, prompts, "L9.mlp_post")["L9.mlp_post"][0].float()
    neuron = int(post[-1].abs().argmax())
    result = neuron_activity(real_model, prompts, layer=9, neuron=neuron)
    assert result.passed
    last = next(row for row in result.tables["tokens"] if row["pos"] == len(post) - 1)
    assert last["rank"] == 0
    assert last["activation"] == pytest.approx(float(post[-1, neuron]), rel=1e-3)
    assert neuron_vocabulary(real_model, layers=(9,), neurons=(neuron,), draws=200).passed
