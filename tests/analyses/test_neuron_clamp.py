"""Clamped neurons move what they write, by the amount that hooks on the plain model show."""

from functools import cache

import numpy as np
import pytest
import torch
from planting import changed, next_word, planted
from small_models import plain_twin, prompt_ids, small_model

from workbench.analyses.neuron_clamp import neuron_clamp
from workbench.analyses.neuron_clamp.choosing import choose
from workbench.model import Model, load
from workbench.planted import plant
from workbench.prompts import Prompt, Prompts
from workbench.tour import tour_prompts
from workbench.words import Site

TEXTS = ("baba bobo dudu", "dada dede bebe buka", "bibi bubu baka")


@cache
def concepts() -> Model:
    return load("planted:concepts")


@cache
def tour() -> Model:
    return load("planted:tour")


def site(layer: int, neuron: int) -> Site:
    return Site("mlp_post", layer, neuron=neuron)


def test_planted_writers_move_their_word_both_ways_and_readers_do_not():
    truth = planted("concepts").truth
    writers = [site(one["layer"], one["neuron"]) for one in truth["writes"][:6]]
    result = neuron_clamp(concepts(), Prompts.of(*TEXTS), neurons=writers, factors=(5,))
    rows = [row for row in result.tables["neurons"] if row["clamped"] == "activation"]
    assert [row["writes"] for row in rows] == [repr(one["token"]) for one in truth["writes"][:6]]
    assert result.scalars["opposite"] == result.scalars["beyond_controls"] == 6
    assert result.scalars["sign_agreement"] > 0.95
    assert abs(result.scalars["read"]) < 0.5 * result.scalars["toward"]
    assert result.passed
    readers = [site(one["layer"], one["neuron"]) for one in truth["reads"][:6]]
    read = neuron_clamp(concepts(), Prompts.of(*TEXTS), neurons=readers, factors=(5,))
    tokens = [row["reads"] for row in read.tables["neurons"] if row["clamped"] == "activation"]
    assert tokens == [repr(one["token"]) for one in truth["reads"][:6]]
    assert read.scalars["read"] < 0.3 * read.scalars["toward"]


def test_up_held_at_ten_the_planted_neuron_says_its_word():
    """The truth of `tour`, by a hook on the plain model; the analysis at the same value finds the same."""
    (one,) = planted("tour").truth["neurons"][:1]
    text = tour_prompts()[0].text
    block = planted("tour").model.model.layers[one["layer"]]

    def held(up: torch.Tensor) -> torch.Tensor:
        up[..., one["neuron"]] = 10.0
        return up

    with changed(block.mlp.up_proj, held):
        assert next_word(planted("tour"), text) == one["token"]
    factors = (1, 40)
    result = neuron_clamp(tour(), tour_prompts(), neurons=[site(one["layer"], one["neuron"])], factors=factors)
    row = next(row for row in result.tables["neurons"] if row["clamped"] == "up")
    assert row["writes"] == row["reads"] == repr(one["token"])
    assert row["unit"] * 40 > 10
    assert row["said_up"] == 1
    assert row["said_down"] == 0
    assert row["gate"] == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("clamped", ["up", "activation"])
def test_agrees_with_hooks_on_the_plain_model(clamped: str, positions: str):
    text, layer, neuron = "w20 w31 w9 w55 w7", 0, 17
    model, twin = small_model("Llama"), plain_twin("Llama")
    result = neuron_clamp(
        model, Prompts.of(text), neurons=[site(layer, neuron)], token="w50", factors=(3,), positions=positions
    )
    kind = result.named("write").labels["component"].index(clamped)
    row = result.tables["neurons"][kind]
    ids = model.tokens(text).ids
    with torch.no_grad():
        plain = twin(ids, use_cache=False).logits[0, -1]
    places = slice(-1, None) if positions == "last" else slice(1, None)
    for step, sign in ((0, -1), (1, 1)):

        def hold(value: torch.Tensor, sign: int = sign) -> torch.Tensor:
            value = value.clone()
            value[:, places, neuron] = 3 * sign * row["unit"]
            return value

        mlp = twin.model.layers[layer].mlp
        if clamped == "up":
            handle = mlp.up_proj.register_forward_hook(lambda module, args, out, hold=hold: hold(out))
        else:
            handle = mlp.down_proj.register_forward_pre_hook(lambda module, args, hold=hold: (hold(args[0]),))
        with torch.no_grad():
            logits = twin(ids, use_cache=False).logits[0, -1]
        handle.remove()
        moved = (logits - logits.mean())[50] - (plain - plain.mean())[50]
        assert result.named("write").values[kind, 0, step] == pytest.approx(float(moved), abs=2e-4)
        change = logits.log_softmax(-1)[50] - plain.log_softmax(-1)[50]
        assert result.named("log_probability").values[kind, 0, step] == pytest.approx(float(change), abs=2e-4)
    assert result.passed


def test_a_linear_way_to_the_logits_is_predicted_exactly():
    """In the last layer, with the final norm frozen by a stream far larger than any clamp."""
    built = planted("concepts")
    model = load("planted:concepts")
    with torch.no_grad():  # one dimension that no token reads makes the stream long
        twin = model.bridge.original_model
        twin.model.embed_tokens.weight[:, 0] = 1e4
        twin.lm_head.weight[:, 0] = 0
    one = next(one for one in built.truth["writes"] if one["layer"] == 3)
    result = neuron_clamp(model, Prompts.of(*TEXTS), neurons=[site(3, one["neuron"])], factors=(1, 10))
    np.testing.assert_allclose(result.named("write").values, result.named("predicted").values, rtol=1e-2, atol=1e-6)
    written = result.named("write").values[0, 0]
    assert written[0] < written[1] < written[2] < written[3]


def test_the_writers_of_a_token_are_found():
    for one in planted("concepts").truth["writes"][:4]:
        chosen = choose(concepts(), Prompts.of(TEXTS[0]), [], one["token"], 1, 2, 0)
        assert (chosen[0].layer, chosen[0].neuron) == (one["layer"], one["neuron"])
        assert concepts().tokenizer.decode([chosen[0].write]) == one["token"]
        assert chosen[0].write_z > 8


def test_without_a_wish_the_neurons_that_speak_are_clamped():
    chosen = choose(tour(), tour_prompts(), [], "", 3, 2, 0)
    spoken = {(one["layer"], one["neuron"]) for one in planted("tour").truth["neurons"]}
    assert {(one.layer, one.neuron) for one in chosen} < spoken


def test_controls_are_neurons_of_the_layer_of_like_length():
    chosen = choose(concepts(), Prompts.of(TEXTS[0]), [site(2, 5), site(2, 6)], "", 1, 4, 3)
    lengths = planted("concepts").model.model.layers[2].mlp.down_proj.weight.detach().norm(dim=0)
    for one in chosen:
        assert len(set(one.controls)) == 4
        assert not {5, 6} & set(one.controls)
        for other in one.controls:
            assert float(lengths[other]) == pytest.approx(float(lengths[one.neuron]), rel=0.1)
    again = choose(concepts(), Prompts.of(TEXTS[0]), [site(2, 5), site(2, 6)], "", 1, 4, 3)
    assert again == chosen


def test_a_model_without_gates_has_one_kind_of_clamp():
    ids = prompt_ids()
    text = " ".join(f"w{index}" for index in ids)
    result = neuron_clamp(small_model("GPT2"), Prompts.of(text), count=2, factors=(2,))
    assert result.named("write").labels["component"] == ("activation",)
    assert result.tables["neurons"][0]["gate"] is None
    assert len(result.checks) == 1
    assert result.passed


def test_norms_behind_the_mlp_are_in_the_prediction():
    result = neuron_clamp(small_model("Gemma3"), Prompts.of("w20 w31 w9 w55 w7"), count=4, factors=(1,))
    assert result.scalars["sign_agreement"] > 0.8
    assert result.passed


def test_several_prompts_have_intervals_and_one_has_none():
    one = neuron_clamp(concepts(), Prompts.of(TEXTS[0]), count=1, factors=(1,), controls=1)
    three = neuron_clamp(concepts(), Prompts.of(*TEXTS), count=1, factors=(1,), controls=1)
    assert "lower" not in one.arrays
    assert (three.named("lower").values <= three.named("write").values + 1e-6).all()
    assert (three.named("upper").values >= three.named("write").values - 1e-6).all()


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"neurons": [Site("mlp_pre", 0, neuron=1)]}, "neurons are named as L3.N5.mlp_post"),
        ({"neurons": [site(0, 400)]}, "there are 400 neurons"),
        ({"neurons": [site(0, 4), site(0, 4)]}, "neurons names one twice"),
        ({"token": "no such words"}, "is 3 tokens"),
        ({"factors": (0,)}, "factors are different whole numbers from 1 up"),
        ({"factors": (2, 2)}, "factors are different whole numbers from 1 up"),
        ({"controls": 0}, "controls must be 1 or more"),
        ({"neurons": [site(0, 4)], "controls": 400}, "L0 has 399 other neurons"),
    ],
)
def test_refuses(knobs, message):
    with pytest.raises(ValueError, match=message):
        neuron_clamp(concepts(), Prompts.of(TEXTS[0]), **knobs)


def test_refuses_a_single_token():
    built = plant("concepts")
    model = load(built.model, tokenizer=built.tokenizer, prepend_bos=False)
    with pytest.raises(ValueError, match="'baba' is one token"):
        neuron_clamp(model, Prompts.of(Prompt("baba")), neurons=[site(0, 1)])


@pytest.mark.real
def test_on_a_real_model_writing_predicts_and_reading_does_not(real_model):
    prompts = Prompts.of("My favourite animal is the", "Yesterday we went to the", "He opened the box and saw a")
    result = neuron_clamp(real_model, prompts, token=" dog", count=4, factors=(2, 5))
    assert result.passed
    assert result.scalars["sign_agreement"] > 0.7
    assert result.scalars["opposite"] >= 2
